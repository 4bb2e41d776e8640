import ProxyConfig

/// What one endpoint's calls of the last interval say, and who stands out among its siblings.
struct HostRate: Hashable {
    var host: Int
    var calls: UInt32
    var failures: UInt32

    /// In percent.
    var success: Double { calls == 0 ? 100 : 100 * Double(calls - failures) / Double(calls) }
}

extension EndpointPolicy.SuccessRate {
    /// Those below the mean of all by more than the standard deviation allows, the worst first, with the threshold in percent.
    ///
    /// Only endpoints with enough calls take part; with too few of them nobody stands out.
    func outliers(among rates: [HostRate]) -> (hosts: [HostRate], mean: Double, threshold: Double) {
        let known = rates.filter { $0.calls >= max(minimumCalls, 1) }
        guard !known.isEmpty, known.count >= minimumHosts else { return ([], 0, 0) }
        let mean = known.reduce(0) { $0 + $1.success } / Double(known.count)
        // Of the whole population, as in Envoy and gRFC A50.
        let variance = known.reduce(0) { $0 + ($1.success - mean) * ($1.success - mean) } / Double(known.count)
        let threshold = mean - variance.squareRoot() * Double(deviationThousandths) / 1000
        let outliers = known.filter {
            $0.success < threshold && mean - $0.success >= Double(minimumDeviationPercent) && $0.failures >= minimumFailures
        }
        return (outliers.sorted(by: isWorse), mean, threshold)
    }
}

extension EndpointPolicy.FailurePercentage {
    /// Those that failed too often, the worst first.
    func outliers(among rates: [HostRate]) -> [HostRate] {
        let known = rates.filter { $0.calls >= max(minimumCalls, 1) }
        guard known.count >= minimumHosts else { return [] }
        return known.filter { UInt64($0.failures) * 100 >= UInt64(percent) * UInt64($0.calls) && $0.failures >= minimumFailures }
            .sorted(by: isWorse)
    }
}

/// Equal rates: who failed more often; then the order of the members.
private func isWorse(_ left: HostRate, _ right: HostRate) -> Bool {
    (left.success, -Int(left.failures), left.host) < (right.success, -Int(right.failures), right.host)
}
