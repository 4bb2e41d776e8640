import Base
import ProxyConfig
import Testing

@testable import XDSWire

/// What other control planes send: fields that we do not write, forms that we do not use, and values that we must refuse.
@Suite struct ForeignMessageTests {
    // MARK: Accepted

    @Test("fields that nobody knows are ignored")
    func unknownFields() throws {
        for seed in UInt64(0)..<50 {
            for response in RandomSnapshot.make(seed: seed).discoveryResponses() {
                let type = try #require(ResourceType(rawValue: response.typeURL))
                for resource in response.resources {
                    let noisy = addingUnknownFields(resource.value)
                    #expect(try DecodedResource(type, noisy) == DecodedResource(type, resource.value), "seed \(seed)")
                }
            }
        }
    }

    @Test(
        "deprecated header matchers mean the same as today's",
        arguments: [
            (message { $0.chosenString(.exact_match, "a") }, .exact("a"), false),
            (message { $0.chosenString(.prefix_match, "a") }, .prefix("a"), false),
            (message { $0.chosenString(.suffix_match, "a") }, .suffix("a"), false),
            (message { $0.message(.safe_regex_match, RegexMatcherField.self) { $0.string(.regex, "a+") } }, .regex("a+"), false),
            (message { _ in }, .present, false),
            (message { $0.chosenBool(.present_match, false) }, .present, true),
            (message { $0.chosenBool(.present_match, false) } + message { $0.bool(.invert_match, true) }, .present, false),
        ] as [([UInt8], HeaderMatcher.Condition, Bool)])
    func headerMatchers(rest: [UInt8], condition: HeaderMatcher.Condition, isInverted: Bool) throws {
        let bytes = XDSWireTests.message(HeaderMatcher.Fields.self) { $0.string(.name, "X-Name") } + rest
        let matcher = try decodeMessage(HeaderMatcher.self, bytes[...], "HeaderMatcher").value
        #expect(matcher == HeaderMatcher(name: "x-name", condition: condition, isInverted: isInverted))
    }

    private static func message(_ write: (inout MessageWriter<HeaderMatcher.Fields>) -> Void) -> [UInt8] {
        XDSWireTests.message(HeaderMatcher.Fields.self, write)
    }

    @Test("inline routes become route configurations of the snapshot, each with a name of its own")
    func inlineRoutes() throws {
        let listener = listenerBytes { manager in
            manager.message(.route_config, RouteConfiguration(name: "local_route", virtualHosts: []))
        }
        guard case .listener(let decoded, let routes) = try DecodedResource(.listener, listener) else {
            Issue.record("no listener")
            return
        }
        #expect(routes == [RouteConfiguration(name: "in/routes[0]", virtualHosts: [])])
        guard case .http(let manager) = decoded.filterChains[0].filter else {
            Issue.record("no HTTP filter")
            return
        }
        #expect(manager.routeConfigurationName == "in/routes[0]")
        // What is not said is Envoy's default.
        #expect(manager.idleTimeout == .seconds(3600))
        #expect(manager.maxHeaderBytes == 60 * 1024)
        #expect(!manager.isEdge)
        #expect(manager.maxConnectionAge == nil && manager.http2 == HTTP2Options(allowsExtendedConnect: false))
        #expect(manager.forwardClientCertificate == .sanitize)
    }

    @Test("a cluster that says only the necessary has Envoy's defaults")
    func minimalCluster() throws {
        let bytes = XDSWireTests.message(Cluster.Fields.self) {
            $0.string(.name, "c")
            $0.number(.type, 3)
            $0.message(.eds_cluster_config, EDSConfigField.self) { $0.adsSource(.eds_config) }
            $0.emptyMessage(.outlier_detection)
        }
        #expect(
            try DecodedResource(.cluster, bytes)
                == .cluster(
                    Cluster(
                        name: "c", discovery: .eds(serviceName: "c"), connectTimeout: .seconds(5), outlierDetection: OutlierDetection(),
                        circuitBreakers: CircuitBreakers(maxConnections: 1024, maxPendingRequests: 1024, maxRequests: 1024))))
    }

    @Test("how a cluster speaks to its endpoints, in today's form and the deprecated one", arguments: upstreamProtocols)
    func upstreamProtocol(form: String, bytes: [UInt8], expected: UpstreamProtocol, http2: HTTP2Options) throws {
        guard case .cluster(let cluster) = try DecodedResource(.cluster, bytes) else { return }
        #expect(cluster.upstreamProtocol == expected && cluster.http2 == http2, "\(form)")
    }

    /// HTTP/2 without its options is what Envoy takes for it, but for the sizes, which are ours.
    private static let upstreamProtocols: [(String, [UInt8], UpstreamProtocol, HTTP2Options)] = [
        ("nothing", cluster { _ in }, .http1, HTTP2Options()),
        ("deprecated", cluster { $0.emptyMessage(.http2_protocol_options) }, .http2, HTTP2Options(allowsExtendedConnect: false)),
        (
            "deprecated, with options",
            cluster {
                $0.message(.http2_protocol_options, HTTP2Options.Fields.self) {
                    $0.wrapped(.max_concurrent_streams, UInt32(7))
                    $0.message(.connection_keepalive, HTTP2KeepaliveField.self) { $0.duration(.timeout, .seconds(1)) }
                }
            }, .http2, HTTP2Options(maxConcurrentStreams: 7, allowsExtendedConnect: false)
        ),
        (
            "explicit",
            httpOptions { $0.message(.explicit_http_config, HTTPVersionsField.self) { $0.emptyMessage(.http2_protocol_options) } },
            .http2, HTTP2Options(allowsExtendedConnect: false)
        ),
        (
            "auto", httpOptions(isTLS: true) { $0.emptyMessage(.auto_config) }, .auto, HTTP2Options(allowsExtendedConnect: false)
        ),
    ]

    private static func cluster(_ write: (inout MessageWriter<Cluster.Fields>) -> Void) -> [UInt8] {
        XDSWireTests.message(Cluster.Fields.self) {
            $0.string(.name, "c")
            $0.number(.type, 4)
            write(&$0)
        }
    }

    private static func httpOptions(
        isTLS: Bool = false, _ write: (inout MessageWriter<HTTPProtocolOptionsField>) -> Void
    ) -> [UInt8] {
        cluster {
            if isTLS {
                $0.message(.transport_socket, TransportSocketField.self) { $0.any(.typed_config, .upstreamTLS, NoField.self) { _ in } }
            }
            $0.message(.typed_extension_protocol_options, MapEntryField.self) {
                $0.string(.key, AnyType.httpProtocolOptions.rawValue)
                $0.any(.value, .httpProtocolOptions, HTTPProtocolOptionsField.self, write)
            }
        }
    }

    @Test("endpoints are told from others in one way; any other would have to be honoured, and is refused")
    func socketMatches() throws {
        func read(_ key: String, _ socket: AnyType) throws -> Cluster? {
            let bytes = Self.cluster {
                $0.message(.transport_socket, TransportSocketField.self) { $0.any(.typed_config, .upstreamTLS, NoField.self) { _ in } }
                $0.message(.transport_socket_matches, TransportSocketMatchField.self) {
                    $0.message(.match, StructField.self) { $0.entry(key) { $0.chosenBool(.bool_value, true) } }
                    $0.message(.transport_socket, TransportSocketField.self) { $0.any(.typed_config, socket, NoField.self) { _ in } }
                }
            }
            guard case .cluster(let cluster) = try DecodedResource(.cluster, bytes) else { return nil }
            return cluster
        }
        #expect(try read("plaintext", .rawBuffer)?.tls?.sparesPlaintextEndpoints == true)
        for (key, socket) in [("tlsMode", AnyType.rawBuffer), ("plaintext", .upstreamTLS)] {
            #expect(throws: WireErrors.self) { try read(key, socket) }
        }
    }

    @Test("a certificate that is verified when it is shown need not be demanded")
    func optionalCertificate() throws {
        func read(_ isRequired: Bool?) throws -> DownstreamTLS? {
            let bytes = XDSWireTests.message(DownstreamTLSField.self) {
                $0.message(.common_tls_context, CommonTLSField.self) {
                    $0.message(.tls_certificate_sds_secret_configs, SDSSecretConfigField.self) {
                        $0.string(.name, "ours")
                        $0.adsSource(.sds_config)
                    }
                    $0.message(.validation_context_sds_secret_config, SDSSecretConfigField.self) {
                        $0.string(.name, "theirs")
                        $0.adsSource(.sds_config)
                    }
                }
                if let isRequired { $0.wrapped(.require_client_certificate, isRequired) }
            }
            return try decodeMessage(DownstreamTLS.self, bytes[...], "DownstreamTlsContext").value
        }
        for (isRequired, expected) in [(nil, false), (false, false), (true, true)] as [(Bool?, Bool)] {
            let tls = try #require(try read(isRequired))
            #expect(tls.validation?.trust == .sds(name: "theirs") && tls.requiresCertificate == expected)
        }
    }

    @Test("TLS without ALPN offers what the cluster speaks, as Envoy's connection pools do")
    func upstreamALPN() throws {
        let bytes = Self.httpOptions(isTLS: true) { $0.emptyMessage(.auto_config) }
        guard case .cluster(let cluster) = try DecodedResource(.cluster, bytes) else { return }
        #expect(cluster.tls?.alpn == ["h2", "http/1.1"])
    }

    @Test(
        "what HTTP/2 and certificates of callers cannot be is refused",
        arguments: [
            (
                .init(type: .cluster, bytes: httpOptions { $0.emptyMessage(.auto_config) }),
                "Cluster/c transport_socket: expected TLS: with auto_config ALPN chooses the protocol, found plaintext"
            ),
            (
                .init(type: .cluster, bytes: cluster { $0.message(.http2_protocol_options, HTTP2Options(initialStreamWindow: 1)) }),
                "Cluster/c http2_protocol_options.initial_stream_window_size: expected a number from 65535 through 2147483647, found 1"
            ),
            (
                .init(type: .cluster, bytes: cluster { $0.message(.http2_protocol_options, HTTP2Options(maxConcurrentStreams: 0)) }),
                "Cluster/c http2_protocol_options.max_concurrent_streams: expected a number from 1 through 2147483647, found 0"
            ),
            (
                .init(
                    type: .cluster,
                    bytes: cluster {
                        $0.message(.http2_protocol_options, HTTP2Options.Fields.self) {
                            $0.message(.connection_keepalive, HTTP2KeepaliveField.self) { $0.duration(.interval, .seconds(1)) }
                        }
                    }),
                "Cluster/c http2_protocol_options.connection_keepalive.timeout: expected a duration above 0, found nothing"
            ),
        ] as [(Sample, String)])
    func refusedHTTP2(sample: Sample, expected: String) {
        #expect(errors(sample.type, sample.bytes) == [expected])
    }

    @Test(
        "certificates of callers are passed on as we say, or not at all",
        arguments: [
            (0, nil, nil), (3, nil, nil),
            (1, "forward_client_cert_details: expected SANITIZE (0) or SANITIZE_SET (3), found 1", nil),
            (4, "forward_client_cert_details: expected SANITIZE (0) or SANITIZE_SET (3), found 4", nil),
            (3, "set_current_client_cert_details.cert: expected nothing: Outrigger does not support it, found a value", true),
        ] as [(Int, String?, Bool?)])
    func clientCertificates(mode: Int, expected: String?, cert: Bool?) {
        let bytes = listenerBytes { manager in
            manager.message(.route_config, RouteConfiguration(name: "r", virtualHosts: []))
            manager.number(.forward_client_cert_details, mode)
            if let cert {
                manager.message(.set_current_client_cert_details, ClientCertificateDetailsField.self) { $0.bool(.cert, cert) }
            }
        }
        #expect(errors(.listener, bytes) == expected.map { ["Listener/in filter_chains[0].filters[0].typed_config." + $0] } ?? [])
    }

    @Test("endpoints that must not be used are left out", arguments: [(0, true), (1, true), (2, false), (3, false), (4, false), (5, true)])
    func health(status: Int, isUsed: Bool) throws {
        let bytes = XDSWireTests.message(ClusterLoadAssignment.Fields.self) {
            $0.string(.cluster_name, "c")
            $0.message(.endpoints, LocalityEndpoints.Fields.self) {
                $0.message(.lb_endpoints, Endpoint.Fields.self) {
                    Endpoint(host: .ip(.loopbackV4), port: 80).write(to: &$0)
                    $0.number(.health_status, status)
                }
            }
        }
        guard case .loadAssignment(let assignment) = try DecodedResource(.clusterLoadAssignment, bytes) else { return }
        #expect(assignment.localities[0].endpoints.count == (isUsed ? 1 : 0))
        #expect(assignment.localities[0].weight == 1)
    }

    @Test("a virtual host's retry policy is that of its routes without one")
    func inheritedRetryPolicy() throws {
        let policy = RetryPolicy(retryOn: ["reset"], maxRetries: 4)
        let own = RetryPolicy(retryOn: ["5xx"], maxRetries: 1)
        let host = VirtualHost(
            name: "h", domains: ["*"],
            routes: [nil, own].map {
                Route(
                    name: "", match: RouteMatch(path: .prefix("/")), action: .forward(ForwardAction(target: .cluster("c"), retryPolicy: $0))
                )
            })
        let bytes = XDSWireTests.message(VirtualHost.Fields.self) {
            host.write(to: &$0)
            $0.message(.retry_policy, policy)
        }
        let policies = try decodeMessage(VirtualHost.self, bytes[...], "VirtualHost").value.routes.map { route in
            if case .forward(let action) = route.action { action.retryPolicy } else { RetryPolicy?.none }
        }
        #expect(policies == [policy, own])
    }

    @Test("a filter that we do not know is passed over if it is optional, and refused if not", arguments: [true, false])
    func unknownFilter(isOptional: Bool) {
        let bytes = listenerBytes { manager in
            manager.message(.rds, RDSField.self) {
                $0.adsSource(.config_source)
                $0.string(.route_config_name, "r")
            }
        } filters: { manager in
            manager.message(.http_filters, HTTPFilterField.self) {
                $0.string(.name, "lua")
                $0.message(.typed_config, AnyField.self) { $0.string(.type_url, "type.googleapis.com/envoy.Lua") }
                $0.bool(.is_optional, isOptional)
            }
        }
        let errors = errors(.listener, bytes)
        let path = "Listener/in filter_chains[0].filters[0].typed_config.http_filters[0].typed_config"
        #expect(errors == (isOptional ? [] : ["\(path): expected a filter that is optional or that Outrigger knows, found envoy.Lua"]))
    }

    @Test("a node that is not ours is known by its id")
    func foreignNode() throws {
        let bytes = XDSWireTests.message(Node.Fields.self) { $0.string(.id, "mesh/shop/virtualNode/cart") }
        let node = try decodeMessage(Node.self, bytes[...], "Node").value
        #expect(node.mesh == "shop" && node.role == .virtualNode && node.name == "cart")
        let other = XDSWireTests.message(Node.Fields.self) { $0.string(.id, "envoy-1") }
        #expect(throws: WireErrors.self) { try decodeMessage(Node.self, other[...], "Node") }
    }

    // MARK: Refused

    @Test(
        "what is wrong with a route is said with its path",
        arguments: [
            (match { _ in }, ["prefix: expected prefix, path or safe_regex, found none of them"]),
            (
                match {
                    $0.chosenString(.prefix, "/")
                    $0.emptyMessage(.runtime_fraction)
                }, ["runtime_fraction: expected nothing: Outrigger does not support it, found a value"]
            ),
            (match { $0.emptyMessage(.safe_regex) }, ["safe_regex.regex: expected a value, found nothing"]),
            (
                match {
                    $0.chosenString(.prefix, "/")
                    $0.wrapped(.case_sensitive, false)
                    $0.message(.headers, HeaderMatcher.Fields.self) { $0.chosenString(.contains_match, "x") }
                },
                [
                    "case_sensitive: expected true, found false",
                    "headers[0].contains_match: expected nothing: Outrigger does not support it, found a value",
                    "headers[0].name: expected a value, found nothing",
                ]
            ),
        ] as [([UInt8], [String])])
    func routeMatchErrors(bytes: [UInt8], expected: [String]) {
        #expect(errors(.routeConfiguration, bytes) == expected.map { "RouteConfiguration/r virtual_hosts[0].routes[0].match." + $0 })
    }

    /// A route configuration whose only route has this match.
    private static func match(_ write: (inout MessageWriter<RouteMatch.Fields>) -> Void) -> [UInt8] {
        XDSWireTests.message(RouteConfiguration.Fields.self) {
            $0.string(.name, "r")
            $0.message(.virtual_hosts, VirtualHost.Fields.self) {
                $0.string(.name, "h")
                $0.strings(.domains, ["*"])
                $0.message(.routes, Route.Fields.self) {
                    $0.message(.match, RouteMatch.Fields.self, write)
                    $0.message(.direct_response, DirectReply(status: 200))
                }
            }
        }
    }

    @Test(
        "values out of range are refused",
        arguments: [
            (
                .wrapped(Cluster(name: "c", discovery: .originalDestination, connectTimeout: .zero)),
                "Cluster/c connect_timeout: expected a duration above 0, found 0 s"
            ),
            (
                .wrapped(Cluster(name: "c", discovery: .originalDestination, connectTimeout: .seconds(-1))),
                "Cluster/c connect_timeout: expected a duration from 0 s through 315576000000 s, found -1 s and 0 ns"
            ),
            (.wrapped(Cluster(name: "", discovery: .originalDestination)), "Cluster name: expected a value, found nothing"),
            (
                .wrapped(
                    Cluster(
                        name: "c", discovery: .originalDestination,
                        healthChecks: Array(
                            repeating: HealthCheck(
                                kind: .tcp, interval: .seconds(5), timeout: .seconds(2), healthyThreshold: 2, unhealthyThreshold: 2),
                            count: 2))),
                "Cluster/c health_checks: expected one health check, found 2"
            ),
            (
                .wrapped(Cluster(name: "c", discovery: .originalDestination, panicThresholdPercent: 101)),
                "Cluster/c common_lb_config.healthy_panic_threshold.value: expected a percentage from 0 through 100, found 101.0"
            ),
            (
                .wrapped(Cluster(name: "c", discovery: .originalDestination, panicThresholdPercent: .nan)),
                "Cluster/c common_lb_config.healthy_panic_threshold.value: expected a percentage from 0 through 100, found nan"
            ),
            (
                .wrapped(Cluster(name: "c", discovery: .originalDestination, outlierDetection: OutlierDetection(maxEjectionPercent: 101))),
                "Cluster/c outlier_detection.max_ejection_percent: expected a number from 0 through 100, found 101"
            ),
            (
                .wrapped(Cluster(name: "c", discovery: .originalDestination, outlierDetection: OutlierDetection(consecutive5xx: 0))),
                "Cluster/c outlier_detection.consecutive_5xx: expected a number from 1 through 4294967295, found 0"
            ),
            (
                .wrapped(
                    Cluster(name: "c", discovery: .originalDestination, outlierDetection: OutlierDetection(maxEjectionTime: .seconds(1)))),
                "Cluster/c outlier_detection.max_ejection_time: expected at least base_ejection_time (30.0 seconds), found 1.0 seconds"
            ),
            (
                .wrapped(
                    Cluster(
                        name: "c",
                        discovery: .fixed(
                            ClusterLoadAssignment(
                                clusterName: "c",
                                localities: [
                                    LocalityEndpoints(endpoints: [Endpoint(host: .name("db"), port: 1)])
                                ])))),
                "Cluster/c load_assignment.endpoints[0].lb_endpoints: expected IP addresses (names need type STRICT_DNS), found \"db\""
            ),
            (
                .wrapped(ClusterLoadAssignment(clusterName: "c", localities: [LocalityEndpoints(priority: 1, endpoints: [])])),
                "ClusterLoadAssignment/c endpoints: expected priorities from 0 without a gap, found [1]"
            ),
            (
                .wrapped(ClusterLoadAssignment(clusterName: "c", localities: [LocalityEndpoints(weight: 0, endpoints: [])])),
                "ClusterLoadAssignment/c endpoints[0].load_balancing_weight: expected a number from 1 through 4294967295, found 0"
            ),
            (
                .wrapped(
                    ClusterLoadAssignment(
                        clusterName: "c",
                        localities: [
                            LocalityEndpoints(endpoints: [Endpoint(host: .ip(.loopbackV4), port: 0)])
                        ])),
                "ClusterLoadAssignment/c endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value: "
                    + "expected a number from 1 through 65535, found 0"
            ),
            (
                .wrapped(RouteConfiguration(name: "r", virtualHosts: [VirtualHost(name: "h", domains: [], routes: [])])),
                "RouteConfiguration/r virtual_hosts[0].domains: expected at least one domain, found none"
            ),
            (
                .wrapped(RouteConfiguration(name: "r", virtualHosts: [VirtualHost(name: "h", domains: ["a.*.b"], routes: [])])),
                "RouteConfiguration/r virtual_hosts[0].domains[0]: expected a host with at most one * at its start or end, found \"a.*.b\""
            ),
            (
                .wrapped(
                    RouteConfiguration(
                        name: "r",
                        virtualHosts: [
                            VirtualHost(name: "h", domains: ["A"], routes: []), VirtualHost(name: "i", domains: ["a"], routes: []),
                        ])),
                "RouteConfiguration/r virtual_hosts[1].domains: expected each domain once, found \"a\" again"
            ),
            (
                .wrapped(Listener(name: "l", address: SocketAddress(.anyV4, 1), direction: .inbound, filterChains: [])),
                "Listener/l filter_chains: expected at least one filter chain, found none"
            ),
        ] as [(Sample, String)])
    func ranges(sample: Sample, expected: String) {
        #expect(errors(sample.type, sample.bytes) == [expected])
    }

    @Test("weights must have a sum above 0", arguments: [[], [0], [0, 0], [.max, 1]] as [[UInt32]])
    func weights(weights: [UInt32]) {
        let target = ClusterTarget.weighted(weights.map { WeightedCluster(name: "c", weight: $0) })
        let route = Route(name: "", match: RouteMatch(path: .prefix("/")), action: .forward(ForwardAction(target: target)))
        let bytes = wireBytes(RouteConfiguration(name: "r", virtualHosts: [VirtualHost(name: "h", domains: ["*"], routes: [route])]))
        let sum = weights.reduce(0) { $0 + UInt64($1) }
        #expect(
            errors(.routeConfiguration, bytes) == [
                "RouteConfiguration/r virtual_hosts[0].routes[0].route.weighted_clusters.clusters: "
                    + "expected weights with a sum from 1 through 4294967295, found \(sum)"
            ])
    }

    @Test("a snapshot's references must lead somewhere, and all that do not are told at once")
    func references() {
        let manager = HTTPConnectionManager(statPrefix: "x", routeConfigurationName: "none")
        let proxy = TCPProxy(statPrefix: "x", target: .cluster("gone"))
        let address = SocketAddress(.anyV4, 1)
        let forward = ForwardAction(target: .weighted([WeightedCluster(name: "c", weight: 1), WeightedCluster(name: "lost", weight: 1)]))
        let route = Route(name: "", match: RouteMatch(path: .prefix("/")), action: .forward(forward))
        let snapshot = Snapshot(
            node: Node(mesh: "m", role: .virtualNode, name: "n"),
            listeners: [
                Listener(name: "a", address: address, direction: .inbound, filterChains: [FilterChain(name: "", filter: .http(manager))]),
                Listener(name: "b", address: address, direction: .inbound, filterChains: [FilterChain(name: "", filter: .tcp(proxy))]),
            ],
            routeConfigurations: [RouteConfiguration(name: "r", virtualHosts: [VirtualHost(name: "h", domains: ["*"], routes: [route])])],
            clusters: [Cluster(name: "c", discovery: .eds(serviceName: "s"))])
        let error = #expect(throws: WireErrors.self) { try SnapshotFile.decode(SnapshotFile.encode(snapshot)) }
        #expect(
            error?.description == """
                Listener/a filter_chains[0].filters[0].typed_config.rds.route_config_name: \
                expected the name of a route configuration of this snapshot, found "none"
                Listener/b address: expected an address of its own, found "0.0.0.0:1"
                Listener/b filter_chains[0].filters[0].typed_config.cluster: expected the name of a cluster of this snapshot, found "gone"
                RouteConfiguration/r virtual_hosts[0].routes[0].route.weighted_clusters.clusters[1].name: \
                expected the name of a cluster of this snapshot, found "lost"
                Cluster/c eds_cluster_config.service_name: expected the name of a load assignment of this snapshot, found "s"
                """)
    }

    @Test("a name that two responses of one type bring is refused")
    func duplicateNames() {
        let response = DiscoveryResponse([Cluster(name: "c", discovery: .originalDestination)])
        let error = #expect(throws: WireErrors.self) {
            try Snapshot(node: Node(mesh: "m", role: .virtualNode, name: "n"), responses: [response, response])
        }
        #expect(error?.description == "Cluster/c name: expected a name of its own, found \"c\"")
    }

    @Test("a response must hold resources of its type, each once, and tells the errors of all")
    func responses() {
        let cluster = AnyMessage(Cluster(name: "c", discovery: .originalDestination))
        let response = DiscoveryResponse(
            versionInfo: "1",
            resources: [
                cluster, cluster, AnyMessage(RouteConfiguration(name: "r", virtualHosts: [])),
                AnyMessage(typeURL: cluster.typeURL, value: [8]),
            ],
            typeURL: cluster.typeURL)
        let error = #expect(throws: WireErrors.self) { try response.decodeResources() }
        #expect(
            error?.description == """
                DiscoveryResponse resources[1]: expected each Cluster once, found "c" again
                DiscoveryResponse resources[2].type_url: expected \(cluster.typeURL), \
                found type.googleapis.com/envoy.config.route.v3.RouteConfiguration
                Cluster: expected a protobuf message, found bytes that end inside a field
                """)
    }

    @Test("requests and responses decode to themselves")
    func discovery() throws {
        let request = DiscoveryRequest(
            versionInfo: "v", node: ClientNode(Node(mesh: "m", role: .virtualGateway, name: "n")), resourceNames: ["a", ""], typeURL: "t",
            responseNonce: "n",
            errorDetail: RPCStatus(code: 3, message: "bad"))
        #expect(try DiscoveryRequest(decoding: request.encoded()) == request)
        let empty = DiscoveryRequest(typeURL: "t")
        #expect(try DiscoveryRequest(decoding: empty.encoded()) == empty)
        let response = DiscoveryResponse(
            versionInfo: "v", resources: [AnyMessage(typeURL: "t", value: [0, 255])], typeURL: "t", nonce: "1", controlPlane: "c")
        #expect(try DiscoveryResponse(decoding: response.encoded()) == response)
        let refusal = DiscoveryRequest(typeURL: "t", errorDetail: RPCStatus(code: -1, message: ""))
        #expect(try DiscoveryRequest(decoding: refusal.encoded()) == refusal)
    }
}

/// A resource's bytes, as an argument of a test.
struct Sample: Sendable {
    var type: ResourceType
    var bytes: [UInt8]

    static func wrapped<Resource: WireResource>(_ resource: Resource) -> Sample {
        Sample(type: Resource.resourceType, bytes: resource.encoded())
    }
}

func message<Fields: WireField>(_: Fields.Type, _ write: (inout MessageWriter<Fields>) -> Void) -> [UInt8] {
    var writer = MessageWriter<Fields>()
    write(&writer)
    return writer.bytes
}

/// A listener with an HTTP connection manager of which only the necessary is written, as others would.
private func listenerBytes(
    _ write: (inout MessageWriter<HTTPConnectionManager.Fields>) -> Void,
    filters: (inout MessageWriter<HTTPConnectionManager.Fields>) -> Void = { _ in }
) -> [UInt8] {
    message(Listener.Fields.self) {
        $0.string(.name, "in")
        $0.message(.address, SocketAddress(.anyV4, 80))
        $0.message(.filter_chains, FilterChain.Fields.self) {
            $0.message(.filters, NetworkFilter.Fields.self) {
                $0.any(.typed_config, .httpConnectionManager, HTTPConnectionManager.Fields.self) {
                    $0.string(.stat_prefix, "x")
                    write(&$0)
                    filters(&$0)
                    $0.message(.http_filters, HTTPFilterField.self) { $0.any(.typed_config, .router, NoField.self) { _ in } }
                }
            }
        }
    }
}

private func errors(_ type: ResourceType, _ bytes: [UInt8]) -> [String] {
    do {
        _ = try DecodedResource(type, bytes)
        return []
    } catch {
        return error.errors.map(\.description)
    }
}

/// The same message with fields that no .proto file has, of each wire type, in front and at the end.
private func addingUnknownFields(_ bytes: [UInt8]) -> [UInt8] {
    var unknown = ProtobufWriter()
    unknown.varint(9001, 1)
    unknown.fixed64(9002, 2)
    unknown.fixed32(9003, 3)
    unknown.bytes(9004, [0xff, 0x00])
    let group: [UInt8] = [0xc3, 0xb3, 0x04, 0x08, 0x01, 0xc4, 0xb3, 0x04]  // Field 9016, a group.
    return unknown.bytes + bytes + group
}
