import Base
import ProxyConfig

extension Snapshot {
    /// A gateway's snapshot in which every kind of thing stands at least once, with values that Envoy accepts too.
    ///
    /// Secrets stand in EDS clusters only: Envoy 1.40 crashes while it validates a bootstrap with a STATIC cluster whose secret comes by ADS.
    ///
    /// - Parameter certificates: the directory of `chain.pem` and `key.pem`.
    static func example(certificates: String) -> Snapshot {
        let file = CertificateSource.file(chain: certificates + "/chain.pem", privateKey: certificates + "/key.pem")
        let roots = TrustSource.file(certificates + "/chain.pem")
        return Snapshot(
            node: Node(mesh: "shop", role: .virtualGateway, name: "edge", locality: Locality(region: "eu-west-1", zone: "eu-west-1a")),
            listeners: [
                Listener(
                    name: "edge", address: SocketAddress(.anyV4, 8080), direction: .inbound,
                    filterChains: [
                        FilterChain(
                            name: "http",
                            filter: .http(
                                HTTPConnectionManager(
                                    statPrefix: "ingress", codec: .http1, routeConfigurationName: "edge-routes",
                                    accessLogs: [
                                        AccessLog(
                                            path: "/dev/stdout",
                                            format: .json([
                                                AccessLog.Field(key: "time", value: "%START_TIME%"),
                                                AccessLog.Field(key: "status", value: "%RESPONSE_CODE%"),
                                            ])),
                                        AccessLog(path: "/dev/stderr", format: .text("%REQ(:METHOD)% %RESPONSE_CODE%\n")),
                                    ],
                                    isEdge: true)))
                    ]),
                Listener(
                    name: "tls", address: SocketAddress(.loopbackV6, 8443), direction: .outbound,
                    filterChains: [
                        FilterChain(
                            name: "shop", match: FilterChainMatch(serverNames: ["shop.example"], transportProtocol: .tls),
                            tls: DownstreamTLS(
                                certificate: file, validation: TLSValidation(trust: roots, subjectAlternativeNames: ["spiffe://shop/cart"]),
                                alpn: ["h2", "http/1.1"]),
                            filter: .http(
                                HTTPConnectionManager(
                                    statPrefix: "ingress", routeConfigurationName: "edge-routes", idleTimeout: nil, serverName: "shop",
                                    http2: HTTP2Options(keepalive: HTTP2Keepalive(interval: .seconds(30), timeout: .seconds(10))),
                                    maxConnectionAge: .seconds(3600),
                                    forwardClientCertificate: .sanitizeSet(ClientCertificateDetails(subject: false))))),
                        FilterChain(
                            name: "tcp", match: FilterChainMatch(destinationPort: 8443, transportProtocol: .plaintext),
                            filter: .tcp(TCPProxy(statPrefix: "egress", target: .cluster("tcp"), idleTimeout: nil))),
                        FilterChain(
                            name: "weighted", match: FilterChainMatch(applicationProtocols: ["mesh"]),
                            tls: DownstreamTLS(certificate: .unresolved(arn: "arn:aws:acm:eu-west-1:111122223333:certificate/1")),
                            filter: .tcp(
                                TCPProxy(
                                    statPrefix: "egress",
                                    target: .weighted([WeightedCluster(name: "tcp", weight: 1), WeightedCluster(name: "v2", weight: 3)]),
                                    accessLogs: [AccessLog(path: "/dev/stdout")]))),
                    ]),
            ],
            routeConfigurations: [
                RouteConfiguration(
                    name: "edge-routes",
                    virtualHosts: [
                        VirtualHost(
                            name: "shop", domains: ["shop.example", "*.shop.example", "shop.*", "*"],
                            routes: [
                                Route(name: "cart", match: .exampleMatch, action: .forward(.exampleAction)),
                                Route(
                                    name: "versions", match: RouteMatch(path: .regex("/v[0-9]+/.*"), requiresGRPC: true),
                                    action: .forward(
                                        ForwardAction(
                                            target: .cluster("v2"), hostRewrite: .endpointHostname, timeout: nil, idleTimeout: .seconds(60))
                                    )),
                                Route(
                                    name: "none", match: RouteMatch(path: .exact("/gone")),
                                    action: .reply(DirectReply(status: 404, body: String(repeating: "gone ", count: 1000)))),
                                .examplePolicies,
                                Route(name: "any", match: RouteMatch(path: .prefix("/")), action: .forward(.examplePrefixRewrite)),
                            ])
                    ])
            ],
            clusters: [
                Cluster(
                    name: "v1",
                    discovery: .dns(
                        ClusterLoadAssignment(
                            clusterName: "v1",
                            localities: [LocalityEndpoints(endpoints: [Endpoint(host: .name("cart.internal"), port: 8080)])]), DNSOptions()),
                    outlierDetection: OutlierDetection(maxEjectionPercent: 100),
                    circuitBreakers: CircuitBreakers(maxConnections: 50, maxPendingRequests: 10),
                    healthChecks: [
                        HealthCheck(
                            kind: .http(host: "cart", path: "/ping"), interval: .seconds(5), timeout: .seconds(2), healthyThreshold: 2,
                            unhealthyThreshold: 3, port: 9000)
                    ],
                    idleTimeout: .seconds(4)),
                Cluster(
                    name: "v2", discovery: .eds(serviceName: "v2-endpoints"), loadBalancing: .leastRequest, upstreamProtocol: .http2,
                    healthChecks: [
                        HealthCheck(kind: .grpc, interval: .seconds(5), timeout: .seconds(2), healthyThreshold: 2, unhealthyThreshold: 3)
                    ],
                    tls: UpstreamTLS(
                        validation: TLSValidation(
                            trust: .unresolved(arns: ["arn:aws:acm-pca:eu-west-1:111122223333:1"]),
                            subjectAlternativeNames: ["v2.internal", "10.0.0.1"]),
                        certificate: file, sni: "v2.internal", alpn: ["h2"], isEnforced: false)),
                Cluster(
                    name: "tcp",
                    discovery: .fixed(
                        ClusterLoadAssignment(
                            clusterName: "tcp",
                            localities: [
                                LocalityEndpoints(
                                    locality: Locality(zone: "eu-west-1a"), weight: 2,
                                    endpoints: [Endpoint(host: .ip(.loopbackV4), port: 5432)]),
                                LocalityEndpoints(priority: 1, endpoints: [Endpoint(host: .ip(.loopbackV6), port: 5432)]),
                            ])),
                    loadBalancing: .random, upstreamProtocol: .tcp,
                    healthChecks: [
                        HealthCheck(kind: .tcp, interval: .seconds(5), timeout: .seconds(2), healthyThreshold: 2, unhealthyThreshold: 3)
                    ],
                    tls: UpstreamTLS(validation: TLSValidation(trust: roots)),
                    idleTimeout: .seconds(60)),
                Cluster(name: "any", discovery: .originalDestination),
                Cluster(
                    name: "mesh", discovery: .eds(serviceName: "v2-endpoints"), upstreamProtocol: .auto,
                    tls: UpstreamTLS(
                        validation: TLSValidation(trust: roots, subjectAlternativeNames: ["spiffe://shop/cart"]), certificate: file,
                        alpn: ["h2", "http/1.1"]),
                    http2: HTTP2Options(
                        maxConcurrentStreams: 250, initialStreamWindow: 1 << 18,
                        keepalive: HTTP2Keepalive(interval: .seconds(30), timeout: .seconds(10))),
                    maxConnectionAge: .seconds(600)),
                Cluster(
                    name: "standard", discovery: .eds(serviceName: "v2-endpoints"), loadBalancing: .peakEWMA,
                    balancing: BalancingOptions(preferredZoneSize: 2, slowStart: Ramp(duration: .seconds(10))), resilience: .standard),
                Cluster(
                    name: "ring", discovery: .eds(serviceName: "v2-endpoints"), loadBalancing: .ringHash,
                    balancing: BalancingOptions(hashBoundPercent: 125, slowStart: Ramp(duration: .seconds(5))),
                    resilience: ResiliencePolicy(
                        service: BreakerPolicy(mode: .observe), retryBudget: RetryBudgetLimits(percent: 25, minimum: 5))),
                Cluster(name: "maglev", discovery: .eds(serviceName: "v2-endpoints"), loadBalancing: .maglev),
            ],
            loadAssignments: [
                ClusterLoadAssignment(
                    clusterName: "v2-endpoints",
                    localities: [
                        LocalityEndpoints(
                            locality: Locality(zone: "eu-west-1a"),
                            endpoints: [Endpoint(host: .ip(.loopbackV4), port: 9090, weight: 3)])
                    ])
            ])
    }
}

extension RouteMatch {
    fileprivate static let exampleMatch = RouteMatch(
        path: .prefix("/cart"),
        headers: [
            HeaderMatcher(name: "x-canary", condition: .exact("yes")),
            HeaderMatcher(name: "x-level", condition: .range(start: -1, end: 10), isInverted: true),
            HeaderMatcher(name: ":method", condition: .regex("GET|PUT")),
            HeaderMatcher(name: "x-a", condition: .present),
            HeaderMatcher(name: "x-b", condition: .suffix("z")),
        ],
        queryParameters: [QueryParameterMatcher(name: "q", exact: "1"), QueryParameterMatcher(name: "r")])
}

extension Route {
    fileprivate static let examplePolicies = Route(
        name: "policies", match: RouteMatch(path: .prefix("/policies")),
        action: .forward(
            ForwardAction(
                target: .cluster("standard"), retryPolicy: .standard, hashKeys: [.header("x-user"), .cookie("id"), .sourceAddress],
                mirrors: [RequestMirror(cluster: "ring", share: Share(percent: 2.5)), RequestMirror(cluster: "maglev")],
                hedging: Hedging(delay: .milliseconds(200)))),
        requestHeaders: HeaderChanges(remove: ["x-old"], set: [.init(name: "x-load", value: "100%")], add: [.init(name: "x-e", value: "")]),
        responseHeaders: HeaderChanges(remove: ["server"], set: [.init(name: "x-a", value: "b")]),
        rateLimit: LocalRateLimit(burst: 50, requests: 100),
        fault: FaultInjection(
            delay: .seconds(2), delayShare: Share(percent: 10), abort: .grpc(code: 14), abortShare: Share(percent: 0.5),
            headers: [HeaderMatcher(name: "x-chaos", condition: .exact("on"))]))
}

extension ForwardAction {
    fileprivate static let exampleAction = ForwardAction(
        target: .weighted([
            WeightedCluster(name: "v1", weight: 90), WeightedCluster(name: "v2", weight: 10), WeightedCluster(name: "any", weight: 0),
        ]),
        pathRewrite: .full(#"/a\1"#), hostRewrite: .literal("cart.internal"),
        retryPolicy: RetryPolicy(
            retryOn: ["connect-failure", "retriable-status-codes"], retriableStatusCodes: [503], maxRetries: 2, perTryTimeout: .seconds(3)))

    fileprivate static let examplePrefixRewrite = ForwardAction(target: .cluster("v1"), pathRewrite: .prefix("/shop/"))
}
