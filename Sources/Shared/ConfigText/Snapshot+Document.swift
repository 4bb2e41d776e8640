/// Snapshots as documents for people, in the words of xDS: what `outrigger render` prints is what a running proxy's `/config_dump` prints.
import Base
public import ProxyConfig

extension Snapshot {
    /// Each message as short as it can be said. Names files of keys, never their content.
    public func document(version: String) -> Document {
        .entries([
            "version": .text(version),
            "node": .entries([
                "id": .text(node.id), "mesh": .text(node.mesh), "role": .text(node.role.rawValue),
                "name": .text(node.name), "zone": node.locality.zone.isEmpty ? nil : .text(node.locality.zone),
            ]),
            "process": process.document,
            "listeners": .list(listeners.map(\.document)),
            "route_configurations": .list(routeConfigurations.map(\.document)),
            "clusters": .list(clusters.map { $0.document(loadAssignments) }),
        ])
    }
}

extension ProcessSettings {
    fileprivate var document: Document {
        .entries([
            "admin_address": .text("\(adminAddress)"), "workers": workers.map { .number($0) }, "drain_time": .text(duration(drainTime)),
            "expose_reply_details": exposeReplyDetails ? .flag(true) : nil, "outlier_event_log": outlierEventLogPath.map { .text($0) },
            "overload": overload == OverloadSettings() ? nil : overload.document,
            "breaker_overrides": .nonEmpty(overrides.map(\.document)),
        ])
    }
}

extension BreakerOverride {
    fileprivate var document: Document {
        .entries([
            "cluster": .text(target.cluster), "endpoint": target.endpoint.map { .text("\($0)") }, "action": .text(action.rawValue),
            "until_unix_ms": .number(until),
        ])
    }
}

extension OverloadSettings {
    fileprivate var document: Document {
        .entries([
            "max_memory_bytes": maxMemoryBytes.map { .number($0) }, "min_body_rate": .number(minBodyRate),
            "stuck_time": .text(duration(stuckTime)),
        ])
    }
}

// MARK: Listeners

extension Listener {
    fileprivate var document: Document {
        .entries([
            "name": .text(name), "address": .text("\(address)"), "traffic_direction": .text(direction.rawValue.uppercased()),
            "filter_chains": .list(filterChains.map(\.document)),
        ])
    }
}

extension FilterChain {
    fileprivate var document: Document {
        var entries: [(key: String, value: Document)] = [("name", .text(name))]
        if match != FilterChainMatch() { entries.append(("match", match.document)) }
        if let tls { entries.append(("tls", tls.document)) }
        switch filter {
        case .http(let manager): entries.append(("http_connection_manager", manager.document))
        case .tcp(let proxy): entries.append(("tcp_proxy", proxy.document))
        }
        return .map(entries)
    }
}

extension FilterChainMatch {
    fileprivate var document: Document {
        .entries([
            "destination_port": destinationPort.map { .number($0) }, "server_names": .nonEmpty(serverNames.map { .text($0) }),
            "transport_protocol": transportProtocol.map { .text($0.rawValue) },
            "application_protocols": .nonEmpty(applicationProtocols.map { .text($0) }),
        ])
    }
}

extension HTTPConnectionManager {
    fileprivate var document: Document {
        .entries([
            "stat_prefix": .text(statPrefix), "codec_type": .text(codec.rawValue.uppercased()),
            "route_config_name": .text(routeConfigurationName),
            "use_remote_address": isEdge ? .flag(true) : nil, "access_log": .nonEmpty(accessLogs.map(\.document)),
            "upgrade_types": .nonEmpty(upgradeTypes.map { .text($0) }), "idle_timeout": .text(idleTimeout.map(duration) ?? "none"),
            "request_headers_timeout": .text(duration(requestHeadersTimeout)), "max_header_bytes": .number(maxHeaderBytes),
            "max_headers_count": .number(maxHeaderCount), "server_name": serverName.map { .text($0) },
            "max_connection_duration": maxConnectionAge.map { .text(duration($0)) },
            "http2_protocol_options": codec == .http1 ? nil : http2.document,
            "forward_client_cert_details": forwardClientCertificate.document,
        ])
    }
}

extension HTTP2Options {
    fileprivate var document: Document {
        .entries([
            "max_concurrent_streams": .number(maxConcurrentStreams), "initial_stream_window_size": .number(initialStreamWindow),
            "initial_connection_window_size": .number(initialConnectionWindow), "allow_connect": .flag(allowsExtendedConnect),
            "connection_keepalive": keepalive.map {
                .entries(["interval": .text(duration($0.interval)), "timeout": .text(duration($0.timeout))])
            },
        ])
    }
}

extension ClientCertificateForwarding {
    /// Nil for SANITIZE, which is what everybody expects.
    fileprivate var document: Document? {
        guard case .sanitizeSet(let details) = self else { return nil }
        let shown = [("subject", details.subject), ("uri", details.uri), ("dns", details.dns)]
        return .entries(["mode": .text("SANITIZE_SET"), "set": .nonEmpty(shown.filter(\.1).map { .text($0.0) })])
    }
}

extension TCPProxy {
    fileprivate var document: Document {
        .entries([
            "stat_prefix": .text(statPrefix), target.key: target.document, "idle_timeout": .text(idleTimeout.map(duration) ?? "none"),
            "access_log": .nonEmpty(accessLogs.map(\.document)),
        ])
    }
}

extension AccessLog {
    fileprivate var document: Document {
        let shown: Document? =
            switch format {
            case .standard: nil
            case .text(let text): .text(text)
            case .json(let fields): .map(fields.map { ($0.key, .text($0.value)) })
            }
        return .entries(["path": .text(path), "format": shown])
    }
}

// MARK: Routes

extension RouteConfiguration {
    fileprivate var document: Document {
        .entries(["name": .text(name), "virtual_hosts": .list(virtualHosts.map(\.document))])
    }
}

extension VirtualHost {
    fileprivate var document: Document {
        .entries(["name": .text(name), "domains": .list(domains.map { .text($0) }), "routes": .list(routes.map(\.document))])
    }
}

extension Route {
    fileprivate var document: Document {
        var entries: [(key: String, value: Document)] = [("name", .text(name)), ("match", match.document)]
        switch action {
        case .forward(let forward): entries.append(("route", forward.document))
        case .reply(let reply):
            entries.append(
                ("direct_response", .entries(["status": .number(reply.status), "body": reply.body.isEmpty ? nil : .text(reply.body)])))
        }
        for (key, changes) in [("request_headers", requestHeaders), ("response_headers", responseHeaders)] where !changes.isEmpty {
            entries.append((key, changes.document))
        }
        if let rateLimit { entries.append(("rate_limit", rateLimit.document)) }
        if let fault { entries.append(("fault", fault.document(headers: fault.headers.map(\.document)))) }
        return .map(entries)
    }
}

extension RouteMatch {
    fileprivate var document: Document {
        let (key, value) =
            switch path {
            case .prefix(let prefix): ("prefix", prefix)
            case .exact(let path): ("path", path)
            case .regex(let pattern): ("safe_regex", pattern)
            }
        return .entries([
            key: .text(value), "headers": .nonEmpty(headers.map(\.document)),
            "query_parameters": .nonEmpty(queryParameters.map(\.document)), "grpc": requiresGRPC ? .flag(true) : nil,
        ])
    }
}

extension HeaderMatcher {
    fileprivate var document: Document {
        let shown: (key: String, value: Document) =
            switch condition {
            case .present: ("present_match", .flag(true))
            case .exact(let value): ("exact", .text(value))
            case .prefix(let value): ("prefix", .text(value))
            case .suffix(let value): ("suffix", .text(value))
            case .regex(let pattern): ("safe_regex", .text(pattern))
            case .range(let start, let end): ("range_match", .entries(["start": .number(start), "end": .number(end)]))
            }
        return .entries(["name": .text(name), shown.key: shown.value, "invert_match": isInverted ? .flag(true) : nil])
    }
}

extension QueryParameterMatcher {
    fileprivate var document: Document {
        exact.map { .entries(["name": .text(name), "exact": .text($0)]) } ?? .entries(["name": .text(name), "present_match": .flag(true)])
    }
}

extension ForwardAction {
    fileprivate var document: Document {
        var entries: [(key: String, value: Document)] = [(target.key, target.document)]
        switch pathRewrite {
        case nil: break
        case .prefix(let prefix): entries.append(("prefix_rewrite", .text(prefix)))
        case .full(let path): entries.append(("path_rewrite", .text(path)))
        }
        switch hostRewrite {
        case nil: break
        case .literal(let host): entries.append(("host_rewrite_literal", .text(host)))
        case .endpointHostname: entries.append(("auto_host_rewrite", .flag(true)))
        }
        entries.append(("timeout", .text(timeout.map(duration) ?? "none")))
        entries.append(("idle_timeout", .text(idleTimeout.map(duration) ?? "none")))
        if let retryPolicy { entries.append(("retry_policy", retryPolicy.document)) }
        if let hedging { entries.append(("hedge", hedging.document)) }
        if !hashKeys.isEmpty { entries.append(("hash_policy", .list(hashKeys.map(\.document)))) }
        if !mirrors.isEmpty { entries.append(("request_mirror_policies", .list(mirrors.map(\.document)))) }
        return .map(entries)
    }
}

extension ClusterTarget {
    fileprivate var key: String {
        switch self {
        case .cluster: "cluster"
        case .weighted: "weighted_clusters"
        }
    }

    fileprivate var document: Document {
        switch self {
        case .cluster(let name): .text(name)
        case .weighted(let clusters): .list(clusters.map { .entries(["name": .text($0.name), "weight": .number($0.weight)]) })
        }
    }
}

// MARK: Clusters

extension Cluster {
    fileprivate func document(_ assignments: [ClusterLoadAssignment]) -> Document {
        let type: String
        let family: DNSOptions.Family?
        let assignment: ClusterLoadAssignment?
        switch discovery {
        case .fixed(let endpoints): (type, family, assignment) = ("STATIC", nil, endpoints)
        case .dns(let names, let options): (type, family, assignment) = ("STRICT_DNS", options.family, names)
        case .eds(let service): (type, family, assignment) = ("EDS", nil, assignments.first { $0.clusterName == service })
        case .originalDestination: (type, family, assignment) = ("ORIGINAL_DST", nil, nil)
        }
        return .entries([
            "name": .text(name), "type": .text(type), "dns_lookup_family": family.map { .text($0.xDSName) },
            "connect_timeout": .text(duration(connectTimeout)), "lb_policy": .text(loadBalancing.xDSName),
            "balancing": balancing.document(loadBalancing),
            "protocol": .text(upstreamProtocol.rawValue),
            "http2_protocol_options": upstreamProtocol == .http2 || upstreamProtocol == .auto ? http2.document : nil,
            "max_connection_duration": maxConnectionAge.map { .text(duration($0)) }, "outlier_detection": outlierDetection?.document,
            "circuit_breakers": circuitBreakers == CircuitBreakers() ? nil : circuitBreakers.document,
            "health_checks": .nonEmpty(healthChecks.map(\.document)),
            "resilience": resilience?.document, "healthy_panic_threshold": .text("\(Int(panicThresholdPercent))%"), "tls": tls?.document,
            "endpoints": assignment.map { .list($0.endpoints) },
        ])
    }
}

extension DNSOptions.Family {
    /// dns_lookup_family, in Envoy's words.
    public var xDSName: String {
        switch self {
        case .v4Only: "V4_ONLY"
        case .v6Only: "V6_ONLY"
        case .v4Preferred: "V4_PREFERRED"
        case .v6Preferred: "AUTO"
        case .all: "ALL"
        }
    }
}

extension LoadBalancing {
    fileprivate var xDSName: String {
        switch self {
        case .roundRobin: "ROUND_ROBIN"
        case .leastRequest: "LEAST_REQUEST"
        case .random: "RANDOM"
        case .peakEWMA: "PEAK_EWMA"
        case .ringHash: "RING_HASH"
        case .maglev: "MAGLEV"
        }
    }
}

extension ClusterLoadAssignment {
    /// One list: the zone stands with each endpoint, where a reader looks for it.
    fileprivate var endpoints: [Document] {
        localities.flatMap { locality in
            locality.endpoints.map { endpoint in
                let address =
                    switch endpoint.host {
                    case .ip(let ip): "\(SocketAddress(ip, endpoint.port))"
                    case .name(let name): "\(name):\(endpoint.port)"
                    }
                return .entries([
                    "address": .text(address), "weight": endpoint.weight == 1 ? nil : .number(endpoint.weight),
                    "zone": locality.locality.zone.isEmpty ? nil : .text(locality.locality.zone),
                    "plaintext": endpoint.isPlaintext ? .flag(true) : nil,
                ])
            }
        }
    }
}

extension OutlierDetection {
    fileprivate var document: Document {
        .entries([
            "consecutive_5xx": .number(consecutive5xx), "interval": .text(duration(interval)),
            "base_ejection_time": .text(duration(baseEjectionTime)), "max_ejection_time": .text(duration(maxEjectionTime)),
            "max_ejection_percent": .number(maxEjectionPercent),
        ])
    }
}

extension CircuitBreakers {
    fileprivate var document: Document {
        .entries([
            "max_connections": maxConnections.map { .number($0) }, "max_pending_requests": maxPendingRequests.map { .number($0) },
            "max_requests": maxRequests.map { .number($0) },
        ])
    }
}

extension HealthCheck {
    fileprivate var document: Document {
        let check: Document =
            switch kind {
            case .http(let host, let path): .entries(["protocol": .text("http"), "host": .text(host), "path": .text(path)])
            case .http2(let host, let path): .entries(["protocol": .text("http2"), "host": .text(host), "path": .text(path)])
            case .grpc: .entries(["protocol": .text("grpc")])
            case .tcp: .entries(["protocol": .text("tcp")])
            }
        guard case .map(let entries) = check, case .map(let common) = common else { return check }
        return .map(entries + common)
    }

    private var common: Document {
        .entries([
            "interval": .text(duration(interval)), "timeout": .text(duration(timeout)), "healthy_threshold": .number(healthyThreshold),
            "unhealthy_threshold": .number(unhealthyThreshold), "port": port.map { .number($0) },
        ])
    }
}

// MARK: TLS

extension DownstreamTLS {
    fileprivate var document: Document {
        .entries([
            "certificate": certificate.document, "require_client_certificate": validation == nil ? nil : .flag(requiresCertificate),
            "validation": validation?.document, "alpn_protocols": .nonEmpty(alpn.map { .text($0) }),
        ])
    }
}

extension UpstreamTLS {
    fileprivate var document: Document {
        .entries([
            "enforced": .flag(isEnforced), "spares_plaintext_endpoints": sparesPlaintextEndpoints ? .flag(true) : nil,
            "validation": validation?.document, "certificate": certificate?.document,
            "sni": sni.map { .text($0) }, "alpn_protocols": .nonEmpty(alpn.map { .text($0) }),
        ])
    }
}

extension TLSValidation {
    fileprivate var document: Document {
        let shown: (key: String, value: Document) =
            switch trust {
            case .file(let path): ("trusted_ca", .text(path))
            case .sds(let name): ("sds_secret", .text(name))
            case .unresolved(let arns): ("unresolved_arns", .list(arns.map { .text($0) }))
            }
        return .entries([shown.key: shown.value, "subject_alt_names": .nonEmpty(subjectAlternativeNames.map { .text($0) })])
    }
}

extension CertificateSource {
    fileprivate var document: Document {
        switch self {
        case .file(let chain, let key): .entries(["certificate_chain": .text(chain), "private_key": .text(key)])
        case .sds(let name): .entries(["sds_secret": .text(name)])
        case .unresolved(let arn): .entries(["unresolved_arn": .text(arn)])
        }
    }
}
