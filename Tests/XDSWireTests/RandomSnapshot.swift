import Base
import ProxyConfig

/// Makes valid snapshots of which every field takes every kind of value in some seed.
struct RandomSnapshot {
    private var random: SeededRandom
    private var counter = 0

    static func make(seed: UInt64) -> Snapshot {
        var maker = RandomSnapshot(random: SeededRandom(seed: seed))
        return maker.snapshot()
    }

    private init(random: SeededRandom) {
        self.random = random
    }

    private mutating func snapshot() -> Snapshot {
        let clusters = list(1...4) { $0.cluster() }
        let names = clusters.map(\.name)
        let routes = list(1...3) { $0.routeConfiguration(clusters: names) }
        let routeNames = routes.map(\.name)
        var snapshot = Snapshot(
            node: node(), process: process(), listeners: list(0...3) { $0.listener(routes: routeNames, clusters: names) },
            routeConfigurations: routes, clusters: clusters,
            loadAssignments: clusters.compactMap { cluster in
                if case .eds(let name) = cluster.discovery { assignment(name, allowsNames: false) } else { nil }
            })
        if coin() { snapshot.secrets = list(0...3) { $0.secret() } }
        for index in snapshot.listeners.indices { snapshot.listeners[index].address.port = Port(1000 + index) }
        return snapshot
    }

    // MARK: Chance

    private mutating func coin() -> Bool { random.below(2) == 0 }
    private mutating func below(_ bound: Int) -> Int { random.below(bound) }
    private mutating func pick<Value>(_ values: [Value]) -> Value { values[random.below(values.count)] }

    private mutating func list<Value>(_ count: ClosedRange<Int>, _ make: (inout Self) -> Value) -> [Value] {
        (0..<count.lowerBound + below(count.count)).map { _ in make(&self) }
    }

    private mutating func maybe<Value>(_ make: (inout Self) -> Value) -> Value? { coin() ? make(&self) : nil }

    /// Small numbers, and those at the edges of varints and of the type.
    private mutating func number(_ range: ClosedRange<UInt32> = 1...UInt32.max - 1) -> UInt32 {
        let candidates = [1, 2, 127, 128, 16383, 16384, 1 << 31, UInt32.max - 1, UInt32(below(1000))].filter(range.contains)
        return pick(candidates + [range.lowerBound, range.upperBound])
    }

    private mutating func duration() -> Duration {
        pick([
            .nanoseconds(1), .milliseconds(250), .seconds(1), .seconds(15), .seconds(86400) + .nanoseconds(999_999_999),
            .seconds(1 + below(900)),
        ])
    }

    private mutating func text() -> String {
        pick(["x", "a longer text with spaces", "äöü 漢字 🚀", "quo\"te\\slash", "%START_TIME%\n", String(repeating: "0123456789", count: 40)])
    }

    private mutating func name(_ prefix: String) -> String {
        counter += 1
        return "\(prefix)-\(counter)" + (below(4) == 0 ? "-" + text() : "")
    }

    // MARK: Node and process

    private mutating func node() -> Node {
        var node = Node(mesh: name("mesh"), role: pick([.virtualNode, .virtualGateway]), name: name("node"), locality: locality())
        if coin() { node.cluster = name("service") }
        if coin() { node.id = name("id") }
        return node
    }

    private mutating func process() -> ProcessSettings {
        ProcessSettings(
            adminAddress: SocketAddress(ip(), Port(1 + below(65535))), workers: maybe { 1 + $0.below(64) },
            drainTime: pick([.zero, .seconds(20), duration()]), exposeReplyDetails: coin(), outlierEventLogPath: maybe { $0.text() },
            overload: OverloadSettings(
                maxMemoryBytes: maybe { 1 + $0.below(1 << 40) }, minBodyRate: pick([0, 500, below(1 << 20)]),
                stuckTime: pick([.zero, .seconds(10), duration()])),
            overrides: (0..<below(3)).map { _ in
                BreakerOverride(
                    BreakerOverride.Target(cluster: text(), endpoint: maybe { SocketAddress($0.ip(), Port(1 + $0.below(65535))) }),
                    pick(BreakerOverride.Action.allCases), until: Int64(below(1 << 50)))
            })
    }

    private mutating func locality() -> Locality {
        pick([Locality(), Locality(region: "eu", zone: "eu-1a", subZone: "rack"), Locality(zone: text())])
    }

    private mutating func ip() -> IPAddress {
        pick([.loopbackV4, .anyV4, .loopbackV6, .v4(UInt32(truncatingIfNeeded: random.next())), .v6(random.next(), random.next())])
    }

    // MARK: Listeners

    private mutating func listener(routes: [String], clusters: [String]) -> Listener {
        Listener(
            name: name("listener"), address: SocketAddress(ip(), 1), direction: pick([.inbound, .outbound]),
            filterChains: list(1...3) { maker in
                FilterChain(
                    name: maker.coin() ? "" : maker.name("chain"), match: maker.chainMatch(), tls: maker.maybe { $0.downstreamTLS() },
                    filter: maker.coin() ? .http(maker.manager(routes)) : .tcp(maker.tcpProxy(clusters)))
            })
    }

    private mutating func chainMatch() -> FilterChainMatch {
        FilterChainMatch(
            destinationPort: maybe { Port(1 + $0.below(65535)) }, serverNames: list(0...2) { $0.name("sni") },
            transportProtocol: maybe { $0.pick([.plaintext, .tls]) }, applicationProtocols: list(0...2) { $0.pick(["h2", "http/1.1"]) })
    }

    private mutating func manager(_ routes: [String]) -> HTTPConnectionManager {
        HTTPConnectionManager(
            statPrefix: pick(["ingress", "egress"]), codec: pick([.auto, .http1, .http2]), routeConfigurationName: pick(routes),
            accessLogs: list(0...2) { $0.accessLog() }, upgradeTypes: list(0...2) { $0.pick(["websocket", "CONNECT"]) },
            idleTimeout: maybe { $0.duration() }, requestHeadersTimeout: duration(), maxHeaderBytes: (1 + below(8192)) * 1024,
            maxHeaderCount: 1 + below(65536), isEdge: coin(), serverName: maybe { $0.text() }, http2: http2(),
            maxConnectionAge: maybe { $0.duration() },
            forwardClientCertificate: pick([
                .sanitize, .sanitizeSet(ClientCertificateDetails(subject: coin(), uri: coin(), dns: coin())),
            ]))
    }

    private mutating func http2() -> HTTP2Options {
        HTTP2Options(
            maxConcurrentStreams: number(1...1 << 31 - 1), initialStreamWindow: number(65535...1 << 31 - 1),
            initialConnectionWindow: number(65535...1 << 31 - 1), allowsExtendedConnect: coin(),
            keepalive: maybe { HTTP2Keepalive(interval: $0.duration(), timeout: $0.duration()) })
    }

    private mutating func tcpProxy(_ clusters: [String]) -> TCPProxy {
        TCPProxy(
            statPrefix: text(), target: target(clusters, leastWeight: 1), idleTimeout: maybe { $0.duration() },
            accessLogs: list(0...2) { $0.accessLog() })
    }

    private mutating func accessLog() -> AccessLog {
        AccessLog(
            path: pick(["/dev/stdout", text()]),
            format: pick([
                .standard, .text(text()), .text(""), .json([]), .json(list(0...4) { AccessLog.Field(key: $0.name("k"), value: $0.text()) }),
            ]))
    }

    private mutating func target(_ clusters: [String], leastWeight: UInt32) -> ClusterTarget {
        if coin() { return .cluster(pick(clusters)) }
        var weighted = list(1...3) { WeightedCluster(name: $0.pick(clusters), weight: $0.number(leastWeight...1000)) }
        weighted[0].weight = number(1...1 << 31)
        return .weighted(weighted)
    }

    // MARK: TLS

    private mutating func secret() -> Secret {
        let pem = Array("-----BEGIN CERTIFICATE-----\n\(below(1000))\n".utf8)
        return Secret(
            name: name("secret"),
            content: pick([
                .certificate(chain: pem, privateKey: [0, 255, UInt8(below(256))]),
                .trust(authorities: pem, subjectAlternativeNames: list(0...2) { $0.pick(["a.b.c", "spiffe://mesh/ns/x", "10.0.0.1"]) }),
            ]))
    }

    private mutating func certificate() -> CertificateSource {
        pick([
            .file(chain: "/certs/chain.pem", privateKey: text()), .sds(name: name("secret")),
            .unresolved(arn: "arn:aws:acm:eu-west-1:111122223333:certificate/\(below(100))"),
        ])
    }

    private mutating func validation() -> TLSValidation {
        let arns = list(1...3) { "arn:aws:acm-pca:eu-west-1:111122223333:certificate-authority/\($0.below(100))" }
        return TLSValidation(
            trust: pick([.file(text()), .sds(name: name("roots")), .unresolved(arns: arns), .unresolved(arns: [])]),
            subjectAlternativeNames: list(0...3) { $0.pick(["a.b.c", "spiffe://mesh/ns/x", "10.0.0.1", "::1", $0.text()]) })
    }

    private mutating func alpn() -> [String] { pick([[], ["h2"], ["h2", "http/1.1"]]) }

    private mutating func downstreamTLS() -> DownstreamTLS {
        let validation = maybe { $0.validation() }
        return DownstreamTLS(
            certificate: certificate(), validation: validation, requiresCertificate: validation == nil || coin(), alpn: alpn())
    }

    /// Where nothing is offered, a reader fills in what the cluster speaks.
    private mutating func upstreamTLS(_ upstreamProtocol: UpstreamProtocol) -> UpstreamTLS {
        UpstreamTLS(
            validation: maybe { $0.validation() }, certificate: maybe { $0.certificate() }, sni: maybe { $0.text() },
            alpn: pick(upstreamProtocol == .tcp ? [[], ["mesh"]] : [["h2"], ["h2", "http/1.1"], ["mesh"]]), isEnforced: coin(),
            sparesPlaintextEndpoints: coin())
    }

    // MARK: Routes

    private mutating func routeConfiguration(clusters: [String]) -> RouteConfiguration {
        RouteConfiguration(
            name: name("routes"),
            virtualHosts: list(0...3) { maker in
                VirtualHost(
                    name: maker.name("host"), domains: maker.list(1...3) { $0.domain() }, routes: maker.list(0...4) { $0.route(clusters) })
            })
    }

    private mutating func domain() -> String {
        counter += 1
        return pick(["shop\(counter).local", "shop\(counter).local:8080", "*.n\(counter).example", "p\(counter).*", "[::\(counter)]:80"])
    }

    private mutating func route(_ clusters: [String]) -> Route {
        let reply = DirectReply(status: pick([200, 404, 503, 599]), body: pick(["", text(), String(repeating: "b", count: 5000)]))
        return Route(
            name: coin() ? "" : name("route"), match: routeMatch(), action: coin() ? .forward(forward(clusters)) : .reply(reply),
            requestHeaders: headerChanges(), responseHeaders: headerChanges(),
            rateLimit: maybe { LocalRateLimit(burst: $0.number(), requests: $0.number(), interval: $0.duration()) },
            fault: maybe { $0.fault() })
    }

    private mutating func headerChanges() -> HeaderChanges {
        HeaderChanges(
            remove: list(0...2) { $0.pick(["server", "x-a"]) }, set: list(0...2) { $0.headerField() }, add: list(0...2) { $0.headerField() }
        )
    }

    private mutating func headerField() -> HeaderChanges.Field {
        HeaderChanges.Field(name: pick(["x-a", "x-b"]), value: pick(["", "100%", "%START_TIME%", "a b", "äöü"]))
    }

    private mutating func fault() -> FaultInjection {
        let delay = maybe { $0.duration() }
        let abort: FaultInjection.Abort? = pick([nil, .http(status: 503), .grpc(code: 0), .grpc(code: 14)])
        return FaultInjection(
            delay: delay, delayShare: delay == nil ? .all : share(), abort: abort, abortShare: abort == nil ? .all : share(),
            headers: list(0...2) { $0.headerMatcher() })
    }

    private mutating func share() -> Share {
        pick([.all, Share(percent: 10), Share(percent: 0.25), Share(millionths: 1), Share(millionths: 0)])
    }

    private mutating func routeMatch() -> RouteMatch {
        RouteMatch(
            path: pick([.prefix("/"), .prefix(""), .prefix(text()), .exact("/a"), .exact(""), .regex("/(a|b).*"), .regex(text())]),
            headers: list(0...3) { $0.headerMatcher() },
            queryParameters: list(0...2) { maker in
                QueryParameterMatcher(name: maker.name("q"), exact: maker.pick([nil, "", maker.text()]))
            },
            requiresGRPC: coin())
    }

    private mutating func headerMatcher() -> HeaderMatcher {
        HeaderMatcher(
            name: pick([":method", "x-canary", "user-agent"]),
            condition: pick([
                .present, .exact(""), .exact(text()), .prefix(text()), .suffix(text()), .regex(text()), .range(start: -5, end: 0),
                .range(start: .min, end: .max), .range(start: 1, end: Int64(2 + below(1000))),
            ]),
            isInverted: coin())
    }

    private mutating func forward(_ clusters: [String]) -> ForwardAction {
        ForwardAction(
            target: target(clusters, leastWeight: 0),
            pathRewrite: pick([nil, .prefix("/"), .prefix(text()), .full("/new"), .full(#"/a\1\\b\"#), .full("")]),
            hostRewrite: pick([nil, .literal("host"), .literal(text()), .endpointHostname]), timeout: maybe { $0.duration() },
            idleTimeout: maybe { $0.duration() }, retryPolicy: maybe { $0.retryPolicy() },
            hashKeys: list(0...2) { $0.pick([.header("x-user"), .cookie("Session"), .sourceAddress]) },
            mirrors: list(0...2) { RequestMirror(cluster: $0.pick(clusters), share: $0.share()) },
            hedging: maybe { Hedging(delay: $0.duration(), maxAttempts: $0.number()) })
    }

    private mutating func retryPolicy() -> RetryPolicy {
        let backoff = pick([.milliseconds(25), duration()])
        return RetryPolicy(
            retryOn: pick([[], ["reset"], ["connect-failure", "refused-stream", "retriable-status-codes"]]),
            retriableStatusCodes: list(0...3) { $0.pick([100, 503, 599]) }, maxRetries: pick([0, 1, 2, Int(UInt32.max)]),
            perTryTimeout: maybe { $0.duration() }, hostSelectionMaxAttempts: pick([0, 1, 5, 1000]), onlyIdempotent: coin(),
            backoffBase: backoff, backoffLongest: backoff * (1 + below(100)))
    }

    // MARK: Clusters

    private mutating func cluster() -> Cluster {
        let name = name("cluster")
        let family: DNSOptions.Family = pick([.v4Only, .v6Only, .v4Preferred, .v6Preferred, .all])
        let discovery: Discovery = pick([
            .fixed(assignment(name, allowsNames: false)), .originalDestination, .eds(serviceName: self.name("service")),
            .dns(assignment(name, allowsNames: true), DNSOptions(family: family, refreshInterval: duration())),
        ])
        let upstreamProtocol: UpstreamProtocol = pick([.http1, .http2, .auto, .tcp])
        let speaksHTTP2 = upstreamProtocol == .http2 || upstreamProtocol == .auto
        return Cluster(
            name: name, discovery: discovery, connectTimeout: duration(),
            loadBalancing: discovery == .originalDestination ? .roundRobin : pick(LoadBalancing.allCases),
            upstreamProtocol: upstreamProtocol, outlierDetection: maybe { $0.outlierDetection() },
            circuitBreakers: CircuitBreakers(
                maxConnections: maybe { $0.number(0...UInt32.max - 1) }, maxPendingRequests: maybe { $0.number(0...UInt32.max - 1) },
                maxRequests: maybe { $0.number(0...UInt32.max - 1) }),
            healthChecks: list(0...1) { $0.healthCheck() }, panicThresholdPercent: pick([0, 33.3, 50, 100]),
            tls: upstreamProtocol == .auto || coin() ? upstreamTLS(upstreamProtocol) : nil, idleTimeout: maybe { $0.duration() },
            http2: speaksHTTP2 ? http2() : HTTP2Options(), maxConnectionAge: upstreamProtocol == .tcp ? nil : maybe { $0.duration() },
            balancing: BalancingOptions(
                latencyHalfLife: pick([.milliseconds(500), duration()]), hashBoundPercent: maybe { $0.number(101...UInt32.max) },
                preferredZoneSize: maybe { $0.number() }, slowStart: ramp()),
            resilience: maybe { $0.resilience() })
    }

    private mutating func resilience() -> ResiliencePolicy {
        if below(4) == 0 { return .standard }
        return ResiliencePolicy(
            endpoint: maybe { $0.endpointPolicy() }, service: maybe { $0.breaker() }, limiter: maybe { $0.limiter() },
            queue: QueueLimits(capacity: number(0...UInt32.max), longestWait: duration(), pressureAfter: duration()),
            retryBudget: RetryBudgetLimits(percent: number(0...100), minimum: number(0...UInt32.max)))
    }

    private mutating func endpointPolicy() -> EndpointPolicy {
        EndpointPolicy(
            breaker: breaker(), interval: duration(), maxEjectionPercent: number(0...100), minimumDeviationPercent: number(0...100),
            successRate: maybe {
                .init(
                    deviationThousandths: $0.number(), minimumHosts: $0.number(), minimumCalls: $0.number(),
                    minimumDeviationPercent: $0.number(0...100), minimumFailures: $0.number())
            },
            failurePercentage: maybe {
                .init(
                    percent: $0.number(1...100), minimumHosts: $0.number(), minimumCalls: $0.number(), minimumFailures: $0.number())
            },
            connectionProbeInterval: maybe { $0.duration() })
    }

    private mutating func breaker() -> BreakerPolicy {
        let base = duration()
        return BreakerPolicy(
            mode: pick([.enforce, .observe]),
            trip: .init(
                consecutiveErrors: maybe { $0.number() }, failurePercent: maybe { $0.number(1...100) },
                slowPercent: maybe { $0.number(1...100) }, slowCall: duration(), window: coin() ? .time(duration()) : .calls(number()),
                minimumCalls: number()),
            open: .init(
                base: base, longest: base * (1 + below(10)), backoff: coin() ? .linear : .exponential(percent: number(100...1000)),
                jitterPercent: number(0...100)),
            probe: pick([
                .none,
                .calls(.init(count: number(1...255), concurrency: number(), successPercent: number(1...100), longestWait: duration())),
            ]),
            ramp: ramp())
    }

    private mutating func ramp() -> Ramp {
        coin() ? .none : Ramp(duration: duration(), startPercent: number(1...100))
    }

    private mutating func limiter() -> AdaptiveLimit {
        let minimum = number()
        return AdaptiveLimit(
            minimum: minimum, maximum: UInt32.max, initial: pick([minimum, UInt32.max]), tolerancePercent: number(0...UInt32.max))
    }

    private mutating func outlierDetection() -> OutlierDetection {
        let base = duration()
        return OutlierDetection(
            consecutive5xx: number(), interval: duration(), baseEjectionTime: base, maxEjectionTime: base * (1 + below(10)),
            maxEjectionPercent: number(0...100), enforcingPercent: number(0...100))
    }

    private mutating func healthCheck() -> HealthCheck {
        HealthCheck(
            kind: pick([.http(host: "", path: "/ping"), .http2(host: text(), path: text()), .grpc, .tcp]), interval: duration(),
            timeout: duration(), healthyThreshold: number(), unhealthyThreshold: number(), port: maybe { Port(1 + $0.below(65535)) })
    }

    private mutating func assignment(_ name: String, allowsNames: Bool) -> ClusterLoadAssignment {
        var priority: UInt32 = 0
        return ClusterLoadAssignment(
            clusterName: name,
            localities: list(0...3) { maker in
                defer { priority += maker.coin() ? 1 : 0 }
                return LocalityEndpoints(
                    locality: maker.locality(), priority: priority, weight: maker.number(1...1000),
                    endpoints: maker.list(0...4) { maker in
                        Endpoint(
                            host: allowsNames && maker.coin() ? .name(maker.name("host")) : .ip(maker.ip()),
                            port: Port(1 + maker.below(65535)),
                            weight: maker.number(1...1 << 20), isPlaintext: maker.coin())
                    })
            })
    }
}
