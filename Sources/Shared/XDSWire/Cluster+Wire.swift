import Base
import ProxyConfig

extension Cluster: WireMessage {
    /// envoy.config.cluster.v3.Cluster.
    enum Fields: Int, WireField {
        case name = 1
        case type = 2
        case eds_cluster_config = 3
        case connect_timeout = 4
        case lb_policy = 6
        case health_checks = 8
        case max_requests_per_connection = 9
        case circuit_breakers = 10
        case http2_protocol_options = 14
        case dns_refresh_rate = 16
        case dns_lookup_family = 17
        case outlier_detection = 19
        case upstream_bind_config = 21
        case lb_subset_config = 22
        case transport_socket = 24
        case metadata = 25
        case common_lb_config = 27
        case common_http_protocol_options = 29
        case load_assignment = 33
        case typed_extension_protocol_options = 36
        case least_request_lb_config = 37
        case cluster_type = 38
        case respect_dns_ttl = 39
        case filters = 40
        case load_balancing_policy = 41
        case transport_socket_matches = 43
        case upstream_config = 48
        case round_robin_lb_config = 56
        case transport_socket_matcher = 59
    }

    /// As the fields say, and so that Envoy does what Outrigger does: locality weights count, a limit that is not there is no limit,
    /// retries have a budget, DNS answers keep their TTL.
    ///
    /// What has no field of its own: a cluster is `tcp` if it has TcpProtocolOptions, what `ClusterExtensionKey` names stands in the
    /// metadata, and `.originalDestination` has only one policy (CLUSTER_PROVIDED), so its `loadBalancing` is not written.
    func write(to message: inout MessageWriter<Fields>) {
        message.string(.name, name)
        write(discovery, to: &message)
        message.duration(.connect_timeout, connectTimeout)
        writeLoadBalancing(to: &message)
        message.messages(.health_checks, healthChecks)
        message.message(.circuit_breakers, CircuitBreakers.Fields.self) {
            circuitBreakers.write(to: &$0, retryBudget: resilience?.retryBudget ?? RetryBudgetLimits())
        }
        if let outlierDetection { message.message(.outlier_detection, outlierDetection) }
        if let tls {
            message.message(.transport_socket, TransportSocketField.self) {
                $0.string(.name, "envoy.transport_sockets.tls")
                $0.any(.typed_config, .upstreamTLS, tls)
            }
            if tls.sparesPlaintextEndpoints { message.plaintextEndpoints() }
        }
        message.message(.common_lb_config, CommonLBConfigField.self) {
            $0.message(.healthy_panic_threshold, PercentField.self) { $0.double(.value, panicThresholdPercent) }
            writeCommonBalancing(to: &$0)
        }
        if hasExtension {
            message.message(.metadata, MetadataField.self) { $0.outrigger(ClusterExtensionKey.self) { writeExtension(to: &$0) } }
        }
        writeProtocol(to: &message)
    }

    private func write(_ discovery: Discovery, to message: inout MessageWriter<Fields>) {
        switch discovery {
        case .fixed(let assignment):
            message.number(.type, DiscoveryType.fixed)
            message.message(.load_assignment, assignment)
        case .dns(let assignment, let options):
            message.number(.type, DiscoveryType.strictDNS)
            message.message(.load_assignment, assignment)
            message.duration(.dns_refresh_rate, options.refreshInterval)
            message.number(.dns_lookup_family, options.family.wireNumber)
            message.bool(.respect_dns_ttl, true)
        case .eds(let serviceName):
            message.number(.type, DiscoveryType.eds)
            message.message(.eds_cluster_config, EDSConfigField.self) {
                $0.adsSource(.eds_config)
                $0.string(.service_name, serviceName)
            }
        case .originalDestination:
            message.number(.type, DiscoveryType.originalDestination)
        }
    }

    private func writeProtocol(to message: inout MessageWriter<Fields>) {
        message.message(.typed_extension_protocol_options, MapEntryField.self) {
            switch upstreamProtocol {
            case .tcp:
                $0.string(.key, AnyType.tcpProtocolOptions.rawValue)
                $0.any(.value, .tcpProtocolOptions, TCPProtocolOptionsField.self) {
                    if let idleTimeout { $0.duration(.idle_timeout, idleTimeout) }
                }
            case .http1, .http2, .auto:
                $0.string(.key, AnyType.httpProtocolOptions.rawValue)
                $0.any(.value, .httpProtocolOptions, HTTPProtocolOptionsField.self) {
                    if idleTimeout != nil || maxConnectionAge != nil {
                        $0.message(.common_http_protocol_options, CommonHTTPOptionsField.self) {
                            if let idleTimeout { $0.duration(.idle_timeout, idleTimeout) }
                            if let maxConnectionAge { $0.duration(.max_connection_duration, maxConnectionAge) }
                        }
                    }
                    // Both forms number their members alike.
                    $0.message(upstreamProtocol == .auto ? .auto_config : .explicit_http_config, HTTPVersionsField.self) {
                        if upstreamProtocol != .http2 { $0.emptyMessage(.http_protocol_options) }
                        if upstreamProtocol != .http1 { $0.message(.http2_protocol_options, http2) }
                    }
                }
            }
        }
    }

    /// Values that are not there are Envoy's defaults: connect timeout 5 s, 1024 for each limit, panic at 50 %.
    static func read(_ message: MessageReader<Fields>) -> Cluster? {
        message.refuse(
            .max_requests_per_connection, .upstream_bind_config, .lb_subset_config, .cluster_type, .filters, .upstream_config,
            .transport_socket_matcher)
        let name = message.requiredString(.name)
        let discovery = message.discovery(clusterName: name)
        let options = message.upstreamOptions()
        let panic = message.message(.common_lb_config, CommonLBConfigField.self)?.message(.healthy_panic_threshold, PercentField.self)?
            .percent()
        let connectTimeout = message.positiveDuration(.connect_timeout) ?? .seconds(5)
        let own = message.message(.metadata, MetadataField.self)?.outrigger(ClusterExtensionKey.self)
        let (loadBalancing, balancing) = message.balancing(isOriginalDestination: discovery == .originalDestination, own: own)
        let outlierDetection = message.message(.outlier_detection, OutlierDetection.self)
        let breakers = message.message(.circuit_breakers, CircuitBreakers.self) ?? CircuitBreakers.envoysDefault
        let checks = message.messages(.health_checks, HealthCheck.self)
        // Envoy refuses the second, too.
        if checks.count > 1 { message.fail(.health_checks, expected: "one health check", found: checks.count) }
        let resilience = message.resilience(own)
        var tls = message.tls(own)
        // As Envoy's connection pools do: what is not said is what the cluster speaks.
        if tls?.alpn.isEmpty == true { tls?.alpn = options.upstreamProtocol.alpn }
        if tls == nil { message.refuse(.transport_socket_matches) }
        if options.upstreamProtocol == .auto, tls == nil {
            message.fail(.transport_socket, expected: "TLS: with auto_config ALPN chooses the protocol", found: "plaintext")
        }
        guard let discovery else { return nil }
        return Cluster(
            name: name, discovery: discovery, connectTimeout: connectTimeout, loadBalancing: loadBalancing,
            upstreamProtocol: options.upstreamProtocol, outlierDetection: outlierDetection, circuitBreakers: breakers, healthChecks: checks,
            panicThresholdPercent: panic ?? 50, tls: tls, idleTimeout: options.idleTimeout, http2: options.http2,
            maxConnectionAge: options.maxConnectionAge, balancing: balancing, resilience: resilience)
    }
}

/// Cluster.DiscoveryType.
enum DiscoveryType {
    static let fixed = 0
    static let strictDNS = 1
    static let logicalDNS = 2
    static let eds = 3
    static let originalDestination = 4
}

/// envoy.config.cluster.v3.Cluster.EdsClusterConfig.
enum EDSConfigField: Int, WireField {
    case eds_config = 1
    case service_name = 2
}

/// envoy.config.cluster.v3.Cluster.CommonLbConfig.
enum CommonLBConfigField: Int, WireField {
    case healthy_panic_threshold = 1
    case zone_aware_lb_config = 2
    case locality_weighted_lb_config = 3
    case consistent_hashing_lb_config = 7
}

/// envoy.type.v3.Percent.
enum PercentField: Int, WireField {
    case value = 1
}

/// envoy.extensions.upstreams.http.v3.HttpProtocolOptions.
enum HTTPProtocolOptionsField: Int, WireField {
    case common_http_protocol_options = 1
    case explicit_http_config = 3
    case use_downstream_protocol_config = 4
    case auto_config = 5
    case http_filters = 6
    case outlier_detection = 8
}

/// envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig and AutoHttpConfig.
enum HTTPVersionsField: Int, WireField {
    case http_protocol_options = 1
    case http2_protocol_options = 2
    case http3_protocol_options = 3
}

/// envoy.extensions.upstreams.tcp.v3.TcpProtocolOptions.
enum TCPProtocolOptionsField: Int, WireField {
    case idle_timeout = 1
}

extension MessageWriter<Cluster.Fields> {
    /// Endpoints whose metadata says so get no TLS; all others have the cluster's `transport_socket`.
    fileprivate mutating func plaintextEndpoints() {
        message(.transport_socket_matches, TransportSocketMatchField.self) {
            $0.string(.name, PlaintextMark.key)
            $0.message(.match, StructField.self) { $0.entry(PlaintextMark.key) { $0.chosenBool(.bool_value, true) } }
            $0.message(.transport_socket, TransportSocketField.self) {
                $0.string(.name, "envoy.transport_sockets.raw_buffer")
                $0.any(.typed_config, .rawBuffer, NoField.self) { _ in }
            }
        }
    }
}

extension MessageReader<Cluster.Fields> {
    fileprivate func discovery(clusterName: String) -> Discovery? {
        let type = number(.type)
        switch Int(truncatingIfNeeded: type) {
        case DiscoveryType.fixed:
            guard let assignment = required(.load_assignment, ClusterLoadAssignment.self) else { return nil }
            assignment.requireAddresses(path(.load_assignment), context)
            return .fixed(assignment)
        case DiscoveryType.strictDNS:
            let interval = positiveDuration(.dns_refresh_rate) ?? .seconds(5)
            let family = DNSOptions.Family(wireNumber: number(.dns_lookup_family))
            if family == nil { fail(.dns_lookup_family, expected: "a DnsLookupFamily (0 through 4)", found: number(.dns_lookup_family)) }
            guard let assignment = required(.load_assignment, ClusterLoadAssignment.self), let family else { return nil }
            return .dns(assignment, DNSOptions(family: family, refreshInterval: interval))
        case DiscoveryType.eds:
            guard let config = required(.eds_cluster_config, EDSConfigField.self) else { return nil }
            config.requireADSSource(.eds_config)
            let name = config.string(.service_name)
            return .eds(serviceName: name.isEmpty ? clusterName : name)
        case DiscoveryType.originalDestination: return .originalDestination
        default:
            fail(.type, expected: "STATIC (0), STRICT_DNS (1), EDS (3) or ORIGINAL_DST (4)", found: type)
            return nil
        }
    }

    /// A budget of retries that is not ours makes a policy too, and no more of it: requests are refused as before, not queued.
    fileprivate func resilience(_ own: ObjectReader<ClusterExtensionKey>?) -> ResiliencePolicy? {
        let budget = message(.circuit_breakers, CircuitBreakers.Fields.self)?.retryBudget()
        if let policy = own?.object(.resilience, ResilienceKey.self) { return policy.policy(retryBudget: budget) }
        guard let budget, budget != RetryBudgetLimits() else { return nil }
        return ResiliencePolicy(queue: QueueLimits(capacity: 0), retryBudget: budget)
    }

    fileprivate func tls(_ own: ObjectReader<ClusterExtensionKey>?) -> UpstreamTLS? {
        guard let socket = message(.transport_socket, TransportSocketField.self)?.any(.typed_config) else { return nil }
        switch socket.type {
        case .rawBuffer: return nil
        case .upstreamTLS:
            guard var tls = socket.open(UpstreamTLSField.self).flatMap(UpstreamTLS.read) else { return nil }
            tls.isEnforced = own?.bool(.tls_enforced) ?? tls.isEnforced
            tls.sparesPlaintextEndpoints = sparesPlaintextEndpoints()
            return tls
        default:
            socket.fail(expected: AnyType.upstreamTLS.rawValue)
            return nil
        }
    }

    /// One form is understood: ours. Another would have to be honoured, and is refused.
    private func sparesPlaintextEndpoints() -> Bool {
        let matches = messages(.transport_socket_matches, TransportSocketMatchField.self)
        guard let match = matches.first else { return false }
        let entries = match.message(.match, StructField.self)?.entries() ?? []
        let socket = match.message(.transport_socket, TransportSocketField.self)?.any(.typed_config)
        guard matches.count == 1, entries.count == 1, entries[0].key == PlaintextMark.key, entries[0].value.bool(.bool_value),
            socket?.type == .rawBuffer
        else {
            fail(.transport_socket_matches, expected: "one: raw_buffer for {\(PlaintextMark.key): true}", found: "\(matches.count), others")
            return false
        }
        return true
    }

    /// Explicit options beat the deprecated fields of the cluster, as in Envoy.
    fileprivate func upstreamOptions() -> UpstreamOptions {
        var options = UpstreamOptions()
        options.readCommon(message(.common_http_protocol_options, CommonHTTPOptionsField.self))
        if has(.http2_protocol_options) {
            options.upstreamProtocol = .http2
            options.http2 = message(.http2_protocol_options, HTTP2Options.self) ?? options.http2
        }
        for entry in messages(.typed_extension_protocol_options, MapEntryField.self) {
            guard let value = entry.any(.value) else { continue }
            options = UpstreamOptions()
            switch value.type {
            case .tcpProtocolOptions:
                options.upstreamProtocol = .tcp
                options.idleTimeout = value.open(TCPProtocolOptionsField.self)?.timeout(.idle_timeout) ?? nil
            case .httpProtocolOptions:
                guard let message = value.open(HTTPProtocolOptionsField.self) else { continue }
                options.readCommon(message.message(.common_http_protocol_options, CommonHTTPOptionsField.self))
                options.readVersions(message)
            default: value.fail(expected: "HttpProtocolOptions or TcpProtocolOptions")
            }
        }
        return options
    }
}

/// What a cluster says about its connections, wherever it says it.
private struct UpstreamOptions {
    var upstreamProtocol = UpstreamProtocol.http1
    var idleTimeout: Duration?
    var maxConnectionAge: Duration?
    var http2 = HTTP2Options()

    mutating func readCommon(_ message: MessageReader<CommonHTTPOptionsField>?) {
        message?.refuse(.max_stream_duration, .max_requests_per_connection)
        idleTimeout = message?.timeout(.idle_timeout) ?? nil
        maxConnectionAge = message?.timeout(.max_connection_duration) ?? nil
    }

    mutating func readVersions(_ message: MessageReader<HTTPProtocolOptionsField>) {
        message.refuse(.use_downstream_protocol_config, .http_filters, .outlier_detection)
        let form = message.chosen(.explicit_http_config, .auto_config) ?? .explicit_http_config
        guard let versions = message.required(form, HTTPVersionsField.self) else { return }
        versions.refuse(.http3_protocol_options)
        if form == .auto_config {
            upstreamProtocol = .auto
        } else if versions.chosen(.http_protocol_options, .http2_protocol_options) == .http2_protocol_options {
            upstreamProtocol = .http2
        }
        if upstreamProtocol != .http1 {
            http2 = versions.message(.http2_protocol_options, HTTP2Options.self) ?? HTTP2Options(allowsExtendedConnect: false)
        }
    }
}

extension UpstreamProtocol {
    fileprivate var alpn: [String] {
        switch self {
        case .http1: ["http/1.1"]
        case .http2: ["h2"]
        case .auto: ["h2", "http/1.1"]
        case .tcp: []
        }
    }
}

extension DNSOptions.Family {
    /// Cluster.DnsLookupFamily: AUTO asks for IPv6 first and takes IPv4 if there is none.
    private static let wireOrder: [Self] = [.v6Preferred, .v4Only, .v6Only, .v4Preferred, .all]

    fileprivate var wireNumber: Int { Self.wireOrder.firstIndex(of: self) ?? 0 }

    fileprivate init?(wireNumber: UInt64) {
        guard wireNumber < UInt64(Self.wireOrder.count) else { return nil }
        self = Self.wireOrder[Int(wireNumber)]
    }
}

extension CircuitBreakers: WireMessage {
    /// envoy.config.cluster.v3.CircuitBreakers.
    enum Fields: Int, WireField {
        case thresholds = 1
        case per_host_thresholds = 2
    }

    static let envoysDefault = CircuitBreakers(maxConnections: 1024, maxPendingRequests: 1024, maxRequests: 1024)

    func write(to message: inout MessageWriter<Fields>) {
        write(to: &message, retryBudget: RetryBudgetLimits())
    }

    /// Envoy limits what no limit is given for to 1024, so "no limit" is the greatest number. An empty retry budget is Envoy's default
    /// one and ours: 20 % and at least 3.
    func write(to message: inout MessageWriter<Fields>, retryBudget budget: RetryBudgetLimits) {
        let usual = RetryBudgetLimits()
        message.message(.thresholds, ThresholdsField.self) {
            $0.wrapped(.max_connections, maxConnections ?? .max)
            $0.wrapped(.max_pending_requests, maxPendingRequests ?? .max)
            $0.wrapped(.max_requests, maxRequests ?? .max)
            $0.message(.retry_budget, RetryBudgetField.self) {
                if budget.percent != usual.percent {
                    $0.message(.budget_percent, PercentField.self) { $0.double(.value, Double(budget.percent)) }
                }
                if budget.minimum != usual.minimum { $0.wrapped(.min_retry_concurrency, budget.minimum) }
            }
        }
    }

    static func read(_ message: MessageReader<Fields>) -> CircuitBreakers? {
        message.refuse(.per_host_thresholds)
        guard let thresholds = message.thresholds() else { return envoysDefault }
        func limit(_ field: ThresholdsField) -> UInt32? {
            let value = thresholds.wrapped(field) ?? 1024
            return value == .max ? nil : value
        }
        return CircuitBreakers(
            maxConnections: limit(.max_connections), maxPendingRequests: limit(.max_pending_requests), maxRequests: limit(.max_requests))
    }
}

extension MessageReader<CircuitBreakers.Fields> {
    /// Priority HIGH has no traffic here: routes of that priority are refused.
    fileprivate func thresholds() -> MessageReader<ThresholdsField>? {
        messages(.thresholds, ThresholdsField.self).first { $0.number(.priority) == 0 }
    }

    /// Nil where there is none. Percentages are rounded to whole ones.
    fileprivate func retryBudget() -> RetryBudgetLimits? {
        guard let budget = thresholds()?.message(.retry_budget, RetryBudgetField.self) else { return nil }
        var limits = RetryBudgetLimits()
        limits.percent = budget.message(.budget_percent, PercentField.self)?.wholePercent(in: 0...100) ?? limits.percent
        limits.minimum = budget.wrapped(.min_retry_concurrency) ?? limits.minimum
        return limits
    }
}

/// envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget.
enum RetryBudgetField: Int, WireField {
    case budget_percent = 1
    case min_retry_concurrency = 2
}

/// envoy.config.cluster.v3.CircuitBreakers.Thresholds.
enum ThresholdsField: Int, WireField {
    case priority = 1
    case max_connections = 2
    case max_pending_requests = 3
    case max_requests = 4
    case retry_budget = 8
}

extension OutlierDetection: WireMessage {
    /// envoy.config.cluster.v3.OutlierDetection.
    enum Fields: Int, WireField {
        case consecutive_5xx = 1
        case interval = 2
        case base_ejection_time = 3
        case max_ejection_percent = 4
        case enforcing_consecutive_5xx = 5
        case enforcing_success_rate = 6
        case max_ejection_time = 21
        case always_eject_one_host = 25
    }

    /// Envoy also ejects by success rate unless told not to, and may eject nobody where the percentage allows less than one host.
    func write(to message: inout MessageWriter<Fields>) {
        message.wrapped(.consecutive_5xx, consecutive5xx)
        message.duration(.interval, interval)
        message.duration(.base_ejection_time, baseEjectionTime)
        message.wrapped(.max_ejection_percent, maxEjectionPercent)
        message.wrapped(.enforcing_consecutive_5xx, enforcingPercent)
        message.wrapped(.enforcing_success_rate, UInt32(0))
        message.duration(.max_ejection_time, maxEjectionTime)
        message.wrapped(.always_eject_one_host, maxEjectionPercent > 0)
    }

    /// Detectors other than consecutive 5xx are ignored: without them a host stays, which is what happens without detection.
    static func read(_ message: MessageReader<Fields>) -> OutlierDetection? {
        let base = message.positiveDuration(.base_ejection_time) ?? .seconds(30)
        let longest = message.positiveDuration(.max_ejection_time) ?? max(base, .seconds(300))
        if longest < base { message.fail(.max_ejection_time, expected: "at least base_ejection_time (\(base))", found: longest) }
        return OutlierDetection(
            consecutive5xx: message.wrapped(.consecutive_5xx, in: 1...UInt32.max) ?? 5,
            interval: message.positiveDuration(.interval) ?? .seconds(10), baseEjectionTime: base, maxEjectionTime: longest,
            maxEjectionPercent: message.wrapped(.max_ejection_percent, in: 0...100) ?? 10,
            enforcingPercent: message.wrapped(.enforcing_consecutive_5xx, in: 0...100) ?? 100)
    }
}
