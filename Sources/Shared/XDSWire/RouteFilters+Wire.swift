import Base
import ProxyConfig

/// The filters that routes configure (typed_per_filter_config). Their names, in the order in which they stand before the router.
///
/// Envoy runs a filter only where its chain has it. So every chain has them, disabled, and the configuration of a route switches them
/// on.
enum RouteFilter: String, CaseIterable {
    case localRateLimit = "envoy.filters.http.local_ratelimit"
    case fault = "envoy.filters.http.fault"

    var type: AnyType {
        switch self {
        case .localRateLimit: .localRateLimit
        case .fault: .fault
        }
    }
}

extension MessageWriter<HTTPConnectionManager.Fields> {
    mutating func routeFilters() {
        for filter in RouteFilter.allCases {
            message(.http_filters, HTTPFilterField.self) {
                $0.string(.name, filter.rawValue)
                switch filter {
                case .localRateLimit:
                    $0.any(.typed_config, filter.type, LocalRateLimit.Fields.self) { $0.string(.stat_prefix, LocalRateLimit.statPrefix) }
                case .fault: $0.any(.typed_config, filter.type, NoField.self) { _ in }
                }
                $0.bool(.disabled, true)
            }
        }
    }
}

/// envoy.config.route.v3.FilterConfig.
private enum FilterConfigField: Int, WireField {
    case config = 1
    case is_optional = 2
    case disabled = 3
}

extension MessageWriter<Route.Fields> {
    mutating func filters(_ rateLimit: LocalRateLimit?, _ fault: FaultInjection?) {
        if let rateLimit { filter(.localRateLimit, rateLimit) }
        if let fault { filter(.fault, fault) }
    }

    private mutating func filter(_ filter: RouteFilter, _ value: some WireMessage) {
        message(.typed_per_filter_config, MapEntryField.self) {
            $0.string(.key, filter.rawValue)
            $0.any(.value, filter.type, value)
        }
    }
}

extension MessageReader<Route.Fields> {
    /// A filter that Outrigger does not know is refused, unless it is optional or disabled.
    func filters() -> (rateLimit: LocalRateLimit?, fault: FaultInjection?) {
        var filters: (rateLimit: LocalRateLimit?, fault: FaultInjection?)
        for entry in messages(.typed_per_filter_config, MapEntryField.self) {
            guard var config = entry.any(.value) else { continue }
            var mayBeIgnored = false
            if config.type == .filterConfig {
                guard let wrapper = config.open(FilterConfigField.self) else { continue }
                if wrapper.bool(.disabled) { continue }
                mayBeIgnored = wrapper.bool(.is_optional)
                guard let inner = wrapper.any(.config) else { continue }
                config = inner
            }
            switch config.type {
            case .localRateLimit: filters.rateLimit = config.open(LocalRateLimit.Fields.self).flatMap(LocalRateLimit.read)
            case .fault: filters.fault = config.open(FaultInjection.Fields.self).flatMap(FaultInjection.read)
            default:
                if !mayBeIgnored { config.fail(expected: "LocalRateLimit or HTTPFault") }
            }
        }
        return filters
    }
}

// MARK: Rate limit

/// envoy.type.v3.TokenBucket.
private enum TokenBucketField: Int, WireField {
    case max_tokens = 1
    case tokens_per_fill = 2
    case fill_interval = 3
}

extension LocalRateLimit: WireMessage {
    /// envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit.
    enum Fields: Int, WireField {
        case stat_prefix = 1
        case status = 2
        case token_bucket = 3
        case filter_enabled = 4
        case filter_enforced = 5
        case response_headers_to_add = 6
        case descriptors = 8
        case stage = 9
        case local_rate_limit_per_downstream_connection = 11
        case enable_x_ratelimit_headers = 12
        case local_cluster_rate_limit = 16
        case rate_limits = 17
    }

    static let statPrefix = "rate_limit"

    /// A filter that is not enabled and enforced for so many percent of the requests is for none.
    func write(to message: inout MessageWriter<Fields>) {
        message.string(.stat_prefix, Self.statPrefix)
        message.message(.token_bucket, TokenBucketField.self) {
            $0.number(.max_tokens, burst)
            $0.wrapped(.tokens_per_fill, requests)
            $0.duration(.fill_interval, interval)
        }
        for field in [Fields.filter_enabled, .filter_enforced] { message.runtimeShare(field, .all) }
    }

    static func read(_ message: MessageReader<Fields>) -> LocalRateLimit? {
        message.refuse(.status, .response_headers_to_add, .descriptors, .local_cluster_rate_limit, .rate_limits)
        for field in [Fields.stage, .local_rate_limit_per_downstream_connection, .enable_x_ratelimit_headers]
        where message.number(field) != 0 { message.refuse(field) }
        for field in [Fields.filter_enabled, .filter_enforced] {
            let share = message.runtimeShare(field) ?? Share(millionths: 0)
            if share.millionths == 0 { return nil }
            if share != .all { message.fail(field, expected: "0 or 100 percent", found: "\(share.percent) percent") }
        }
        guard let bucket = message.required(.token_bucket, TokenBucketField.self) else { return nil }
        if !bucket.has(.fill_interval) { bucket.fail(.fill_interval, expected: "a value", found: "nothing") }
        let interval = bucket.positiveDuration(.fill_interval)
        let requests = bucket.has(.tokens_per_fill) ? bucket.wrapped(.tokens_per_fill, in: 1...UInt32.max) : 1
        guard let burst = bucket.uint32(.max_tokens, in: 1...UInt32.max), let requests, let interval else { return nil }
        return LocalRateLimit(burst: burst, requests: requests, interval: interval)
    }
}

// MARK: Fault

/// envoy.extensions.filters.common.fault.v3.FaultDelay.
private enum FaultDelayField: Int, WireField {
    case fixed_delay = 3
    case percentage = 4
    case header_delay = 5
}

/// envoy.extensions.filters.http.fault.v3.FaultAbort.
private enum FaultAbortField: Int, WireField {
    case http_status = 2
    case percentage = 3
    case header_abort = 4
    case grpc_status = 5
}

extension FaultInjection: WireMessage {
    /// envoy.extensions.filters.http.fault.v3.HTTPFault.
    enum Fields: Int, WireField {
        case delay = 1
        case abort = 2
        case upstream_cluster = 3
        case headers = 4
        case downstream_nodes = 5
        case max_active_faults = 6
        case response_rate_limit = 7
    }

    func write(to message: inout MessageWriter<Fields>) {
        if let delay {
            message.message(.delay, FaultDelayField.self) {
                $0.duration(.fixed_delay, delay)
                $0.share(.percentage, delayShare)
            }
        }
        if let abort {
            message.message(.abort, FaultAbortField.self) {
                switch abort {
                case .http(let status): $0.number(.http_status, status)
                case .grpc(let code): $0.chosenNumber(.grpc_status, code)
                }
                $0.share(.percentage, abortShare)
            }
        }
        message.messages(.headers, headers)
    }

    /// A share that is not said is 0.
    static func read(_ message: MessageReader<Fields>) -> FaultInjection? {
        message.refuse(.upstream_cluster, .downstream_nodes, .max_active_faults, .response_rate_limit)
        var fault = FaultInjection(headers: message.messages(.headers, HeaderMatcher.self))
        if let delay = message.message(.delay, FaultDelayField.self) {
            delay.refuse(.header_delay)
            if !delay.has(.fixed_delay) { delay.fail(.fixed_delay, expected: "a value", found: "nothing") }
            fault.delay = delay.positiveDuration(.fixed_delay)
            fault.delayShare = delay.share(.percentage) ?? Share(millionths: 0)
        }
        if let abort = message.message(.abort, FaultAbortField.self) {
            abort.refuse(.header_abort)
            switch abort.chosen(.http_status, .grpc_status) {
            case .http_status: fault.abort = abort.uint32(.http_status, in: 200...599).map { .http(status: Int($0)) }
            case .grpc_status: fault.abort = abort.uint32(.grpc_status, in: 0...16).map { .grpc(code: $0) }
            default:
                if !abort.has(.header_abort) { abort.fail(.http_status, expected: "http_status or grpc_status", found: "neither") }
            }
            fault.abortShare = abort.share(.percentage) ?? Share(millionths: 0)
        }
        return fault
    }
}

// MARK: Shares

/// envoy.type.v3.FractionalPercent.
private enum FractionalPercentField: Int, WireField {
    case numerator = 1
    case denominator = 2
}

/// envoy.config.core.v3.RuntimeFractionalPercent. What the runtime says is not ours: the default holds.
private enum RuntimeFractionField: Int, WireField {
    case default_value = 1
}

/// FractionalPercent.DenominatorType: a hundred, ten thousand, a million.
private let denominators: [UInt32] = [100, 10_000, 1_000_000]

extension MessageWriter {
    mutating func share(_ field: Field, _ share: Share) {
        let unit = denominators.firstIndex { share.millionths % (1_000_000 / $0) == 0 } ?? denominators.count - 1
        message(field, FractionalPercentField.self) {
            $0.number(.numerator, share.millionths / (1_000_000 / denominators[unit]))
            $0.number(.denominator, unit)
        }
    }

    mutating func runtimeShare(_ field: Field, _ share: Share) {
        message(field, RuntimeFractionField.self) { $0.share(.default_value, share) }
    }
}

extension MessageReader {
    /// Above the whole is the whole, as in Envoy.
    func share(_ field: Field) -> Share? {
        guard let fraction = message(field, FractionalPercentField.self) else { return nil }
        let unit = fraction.number(.denominator)
        guard unit < UInt64(denominators.count) else {
            fraction.fail(.denominator, expected: "HUNDRED (0), TEN_THOUSAND (1) or MILLION (2)", found: unit)
            return nil
        }
        guard let numerator = fraction.uint32(.numerator) else { return nil }
        let whole = denominators[Int(unit)]
        return Share(millionths: min(numerator, whole) * (1_000_000 / whole))
    }

    func runtimeShare(_ field: Field) -> Share? {
        message(field, RuntimeFractionField.self)?.share(.default_value)
    }
}
