import Base

// The messages of package outrigger.v1; docs/node-report.md has the .proto. Whoever reads them is lenient: a proxy may be older or newer
// than its control plane.

extension NodeReport: WireMessage {
    enum Fields: Int, WireField {
        case node = 1
        case state = 2
        case started_at_ms = 3
        case reported_at_ms = 4
        case applied = 5
        case config_age_ms = 6
        case rejection = 7
        case last_good_from_disk = 8
        case clusters = 9
        case outlier_events = 10
        case certificates = 11
        case process = 12
        case identity = 13
    }

    /// outrigger.v1.NodeReport.Applied and Rejection.
    enum VersionField: Int, WireField {
        case version = 1
        case at_ms = 2
        case reason = 3
    }

    func write(to message: inout MessageWriter<Fields>) {
        if let node { message.message(.node, node) }
        message.number(.state, state.rawValue)
        message.number(.started_at_ms, startedAt)
        message.number(.reported_at_ms, reportedAt)
        if let applied {
            message.message(.applied, VersionField.self) {
                $0.string(.version, applied.version)
                $0.number(.at_ms, applied.at)
            }
        }
        message.number(.config_age_ms, configurationAge)
        if let rejection {
            message.message(.rejection, VersionField.self) {
                $0.string(.version, rejection.version)
                $0.number(.at_ms, rejection.at)
                $0.string(.reason, rejection.reason)
            }
        }
        message.bool(.last_good_from_disk, isLastGoodFromDisk)
        message.messages(.clusters, clusters)
        message.messages(.outlier_events, outlierEvents)
        message.messages(.certificates, certificates)
        message.message(.process, process)
        if let identity { message.message(.identity, identity) }
    }

    static func read(_ message: MessageReader<Fields>) -> NodeReport? {
        let state = State(rawValue: Int(truncatingIfNeeded: message.number(.state)))
        if state == nil { message.fail(.state, expected: "a state from 0 through 2", found: message.number(.state)) }
        let clusters = message.bounded(.clusters, ClusterReport.self, limit: ReportLimits.clusters)
        let endpoints = clusters.reduce(0) { $0 + $1.endpoints.count }
        if endpoints > ReportLimits.endpoints {
            message.fail(.clusters, expected: "at most \(ReportLimits.endpoints) endpoints in all", found: endpoints)
        }
        return NodeReport(
            node: message.message(.node, ClientNode.self), state: state ?? .initializing, startedAt: message.signed(.started_at_ms),
            reportedAt: message.signed(.reported_at_ms),
            applied: message.message(.applied, VersionField.self).map {
                Applied(version: $0.boundedString(.version), at: $0.signed(.at_ms))
            },
            configurationAge: message.signed(.config_age_ms),
            rejection: message.message(.rejection, VersionField.self).map {
                Rejection(version: $0.boundedString(.version), reason: $0.boundedString(.reason), at: $0.signed(.at_ms))
            },
            isLastGoodFromDisk: message.bool(.last_good_from_disk), clusters: clusters,
            outlierEvents: message.bounded(.outlier_events, OutlierEventReport.self, limit: ReportLimits.outlierEvents),
            certificates: message.bounded(.certificates, CertificateReport.self, limit: ReportLimits.certificates),
            identity: message.message(.identity, IdentityReport.self),
            process: message.message(.process, ProcessReport.self) ?? ProcessReport())
    }
}

extension IdentityReport: WireMessage {
    /// outrigger.v1.IdentityReport.
    enum Fields: Int, WireField {
        case serial = 1
        case not_after_ms = 2
        case served = 3
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.string(.serial, serial)
        message.number(.not_after_ms, notAfter)
        message.bool(.served, isServed)
    }

    static func read(_ message: MessageReader<Fields>) -> IdentityReport? {
        IdentityReport(
            serial: message.boundedString(.serial), notAfter: message.signed(.not_after_ms), isServed: message.bool(.served))
    }
}

extension MessageReader {
    fileprivate func bounded<Value: WireMessage>(_ field: Field, _: Value.Type, limit: Int) -> [Value] {
        let messages = messages(field, Value.Fields.self)
        guard messages.count <= limit else {
            fail(field, expected: "at most \(limit) values", found: messages.count)
            return []
        }
        return messages.compactMap(Value.read)
    }

    fileprivate func boundedString(_ field: Field) -> String {
        let text = string(field)
        guard text.utf8.count <= ReportLimits.text else {
            fail(field, expected: "a text of at most \(ReportLimits.text) bytes", found: "one of \(text.utf8.count)")
            return ""
        }
        return text
    }

    fileprivate func requiredBoundedString(_ field: Field) -> String {
        let text = boundedString(field)
        if !has(field) { fail(field, expected: "a value", found: "nothing") }
        return text
    }
}

extension ClusterReport: WireMessage {
    /// outrigger.v1.ClusterReport.
    enum Fields: Int, WireField {
        case name = 1
        case requests = 2
        case server_errors = 3
        case grpc_errors = 4
        case latency = 5
        case active_requests = 6
        case endpoints = 7
        case breaker = 8
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.string(.name, name)
        message.number(.requests, requests)
        message.number(.server_errors, serverErrors)
        message.number(.grpc_errors, grpcErrors)
        if latency != ReportedHistogram() { message.message(.latency, latency) }
        message.number(.active_requests, activeRequests)
        message.messages(.endpoints, endpoints)
        if let breaker { message.message(.breaker, breaker) }
    }

    static func read(_ message: MessageReader<Fields>) -> ClusterReport? {
        ClusterReport(
            name: message.requiredBoundedString(.name), requests: message.number(.requests), serverErrors: message.number(.server_errors),
            grpcErrors: message.number(.grpc_errors), latency: message.message(.latency, ReportedHistogram.self) ?? ReportedHistogram(),
            activeRequests: message.number(.active_requests), endpoints: message.messages(.endpoints, EndpointReport.self),
            breaker: message.message(.breaker, BreakerReport.self))
    }
}

extension EndpointReport: WireMessage {
    /// outrigger.v1.EndpointReport.
    enum Fields: Int, WireField {
        case address = 1
        case requests = 2
        case errors = 3
        case ejection = 4
        case breaker = 5
    }

    /// outrigger.v1.EndpointReport.Ejection.
    enum EjectionField: Int, WireField {
        case since_ms = 1
        case until_ms = 2
        case reason = 3
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.string(.address, address)
        message.number(.requests, requests)
        message.number(.errors, errors)
        if let ejection {
            message.message(.ejection, EjectionField.self) {
                $0.number(.since_ms, ejection.since)
                $0.number(.until_ms, ejection.until)
                $0.string(.reason, ejection.reason)
            }
        }
        if let breaker { message.message(.breaker, breaker) }
    }

    static func read(_ message: MessageReader<Fields>) -> EndpointReport? {
        EndpointReport(
            address: message.requiredBoundedString(.address), requests: message.number(.requests), errors: message.number(.errors),
            ejection: message.message(.ejection, EjectionField.self).map {
                Ejection(since: $0.signed(.since_ms), until: $0.signed(.until_ms), reason: $0.boundedString(.reason))
            }, breaker: message.message(.breaker, BreakerReport.self))
    }
}

extension BreakerReport: WireMessage {
    /// outrigger.v1.BreakerReport.
    enum Fields: Int, WireField {
        case state = 1
        case reason = 2
        case since_ms = 3
        case until_ms = 4
        case closes = 5
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.string(.state, state)
        message.string(.reason, reason)
        message.number(.since_ms, since)
        message.number(.until_ms, until)
        message.string(.closes, closes)
    }

    static func read(_ message: MessageReader<Fields>) -> BreakerReport? {
        BreakerReport(
            state: message.requiredBoundedString(.state), reason: message.boundedString(.reason), since: message.signed(.since_ms),
            until: message.signed(.until_ms), closes: message.boundedString(.closes))
    }
}

extension OutlierEventReport: WireMessage {
    /// outrigger.v1.OutlierEventReport.
    enum Fields: Int, WireField {
        case at_ms = 1
        case cluster = 2
        case endpoint = 3
        case action = 4
        case reason = 5
        case ejections = 6
        case ejected_for_ms = 7
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.number(.at_ms, at)
        message.string(.cluster, cluster)
        message.string(.endpoint, endpoint)
        message.string(.action, action)
        message.string(.reason, reason)
        message.number(.ejections, ejections)
        message.number(.ejected_for_ms, ejectedFor)
    }

    static func read(_ message: MessageReader<Fields>) -> OutlierEventReport? {
        OutlierEventReport(
            at: message.signed(.at_ms), cluster: message.requiredBoundedString(.cluster), endpoint: message.boundedString(.endpoint),
            action: message.requiredBoundedString(.action), reason: message.boundedString(.reason), ejections: message.number(.ejections),
            ejectedFor: message.signed(.ejected_for_ms))
    }
}

extension CertificateReport: WireMessage {
    /// outrigger.v1.CertificateReport.
    enum Fields: Int, WireField {
        case name = 1
        case not_after_ms = 2
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.string(.name, name)
        message.number(.not_after_ms, notAfter)
    }

    static func read(_ message: MessageReader<Fields>) -> CertificateReport? {
        CertificateReport(name: message.requiredBoundedString(.name), notAfter: message.signed(.not_after_ms))
    }
}

extension ProcessReport: WireMessage {
    /// outrigger.v1.ProcessReport.
    enum Fields: Int, WireField {
        case resident_memory_bytes = 1
        case cpu_seconds = 2
        case open_connections = 3
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.number(.resident_memory_bytes, residentMemory)
        message.double(.cpu_seconds, cpuSeconds)
        message.number(.open_connections, openConnections)
    }

    static func read(_ message: MessageReader<Fields>) -> ProcessReport? {
        let seconds = message.double(.cpu_seconds)
        if !(seconds >= 0 && seconds.isFinite) { message.fail(.cpu_seconds, expected: "a number of seconds", found: seconds) }
        return ProcessReport(
            residentMemory: message.number(.resident_memory_bytes), cpuSeconds: seconds, openConnections: message.number(.open_connections))
    }
}

extension ReportedHistogram: WireMessage {
    /// outrigger.v1.Histogram. Buckets that are 0 are left out: `bucket_indices` says which the others are, ascending.
    enum Fields: Int, WireField {
        case lowest_exponent = 1
        case sum_ns = 2
        case largest_ns = 3
        case bucket_indices = 4
        case bucket_counts = 5
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.number(.lowest_exponent, lowestExponent)
        message.number(.sum_ns, sum)
        message.number(.largest_ns, largest)
        let filled = buckets.indices.filter { buckets[$0] != 0 }
        message.numbers(.bucket_indices, filled)
        message.numbers(.bucket_counts, filled.map { buckets[$0] })
    }

    static func read(_ message: MessageReader<Fields>) -> ReportedHistogram? {
        let exponent = Int(truncatingIfNeeded: message.number(.lowest_exponent))
        guard exponents.contains(exponent) else {
            message.fail(
                .lowest_exponent, expected: "a number from \(exponents.lowerBound) through \(exponents.upperBound)",
                found: message.number(.lowest_exponent))
            return nil
        }
        let (indices, counts) = (message.numbers(.bucket_indices), message.numbers(.bucket_counts))
        guard indices.count == counts.count else {
            message.fail(.bucket_counts, expected: "one for each of \(indices.count) indices", found: counts.count)
            return nil
        }
        var buckets = [UInt64](repeating: 0, count: bucketCount)
        var next: UInt64 = 0
        for (index, count) in zip(indices, counts) {
            guard index >= next, index < UInt64(bucketCount) else {
                message.fail(.bucket_indices, expected: "ascending numbers below \(bucketCount)", found: index)
                return nil
            }
            buckets[Int(index)] = count
            next = index + 1
        }
        return ReportedHistogram(
            lowestExponent: exponent, buckets: buckets, sum: message.number(.sum_ns), largest: message.number(.largest_ns))
    }
}

extension ReportReply: WireMessage {
    enum Fields: Int, WireField {
        case interval_ms = 1
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.number(.interval_ms, interval)
    }

    static func read(_ message: MessageReader<Fields>) -> ReportReply? {
        ReportReply(interval: message.number(.interval_ms))
    }
}
