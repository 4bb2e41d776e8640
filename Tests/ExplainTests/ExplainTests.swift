import Base
import ControlAPI
import Explain
import HTTP
import MeshCompiler
import MeshModel
import MeshYAML
import ProxyConfig
import Routing
import Testing

private let mesh = """
    apiVersion: appmesh.k8s.aws/v1beta2
    kind: Mesh
    metadata: {name: m}
    spec: {namespaceSelector: {}}
    ---
    apiVersion: appmesh.k8s.aws/v1beta2
    kind: VirtualNode
    metadata: {name: front}
    spec:
      backends:
      - {virtualService: {virtualServiceRef: {name: color}}}
      - {virtualService: {virtualServiceRef: {name: store}}}
      - {virtualService: {virtualServiceRef: {name: nowhere}}}
    ---
    apiVersion: appmesh.k8s.aws/v1beta2
    kind: VirtualService
    metadata: {name: color}
    spec: {awsName: color.local, provider: {virtualRouter: {virtualRouterRef: {name: color}}}}
    ---
    apiVersion: appmesh.k8s.aws/v1beta2
    kind: VirtualService
    metadata: {name: store}
    spec: {awsName: store.local, provider: {virtualNode: {virtualNodeRef: {name: store}}}}
    ---
    apiVersion: appmesh.k8s.aws/v1beta2
    kind: VirtualService
    metadata: {name: nowhere}
    spec: {awsName: nowhere.local}
    ---
    apiVersion: appmesh.k8s.aws/v1beta2
    kind: VirtualRouter
    metadata: {name: color}
    spec:
      listeners: [{portMapping: {port: 8080, protocol: http}}]
      routes:
      - name: rest
        httpRoute:
          match: {prefix: /}
          action: {weightedTargets: [{virtualNodeRef: {name: red}, weight: 9}, {virtualNodeRef: {name: blue}, weight: 1}]}
      - name: testers
        priority: 1
        httpRoute:
          match: {prefix: /, headers: [{name: x-tester, match: {exact: "yes"}}]}
          action: {weightedTargets: [{virtualNodeRef: {name: blue}, weight: 1}]}
          timeout: {perRequest: {unit: s, value: 3}, idle: {unit: s, value: 4}}
          retryPolicy: {maxRetries: 1, perRetryTimeout: {unit: s, value: 2}, httpRetryEvents: [gateway-error]}
      - name: mix
        priority: 2
        httpRoute:
          match: {path: {regex: "/mix/[0-9]+"}, method: POST, queryParameters: [{name: gloss, match: {exact: high}}]}
          action: {weightedTargets: [{virtualNodeRef: {name: red}, weight: 1}]}
    ---
    apiVersion: appmesh.k8s.aws/v1beta2
    kind: VirtualNode
    metadata: {name: red}
    spec:
      listeners:
      - portMapping: {port: 8080, protocol: http}
        outlierDetection:
          maxServerErrors: 5
          maxEjectionPercent: 50
          interval: {unit: s, value: 10}
          baseEjectionDuration: {unit: s, value: 30}
      serviceDiscovery: {dns: {hostname: red.example}}
    ---
    apiVersion: appmesh.k8s.aws/v1beta2
    kind: VirtualNode
    metadata: {name: blue}
    spec:
      listeners: [{portMapping: {port: 8080, protocol: http}}]
      serviceDiscovery: {dns: {hostname: 10.0.0.7}}
    ---
    apiVersion: appmesh.k8s.aws/v1beta2
    kind: VirtualNode
    metadata: {name: store}
    spec:
      listeners: [{portMapping: {port: 5432, protocol: tcp}}]
      serviceDiscovery: {dns: {hostname: store.example}}
    ---
    apiVersion: appmesh.k8s.aws/v1beta2
    kind: VirtualGateway
    metadata: {name: edge}
    spec:
      namespaceSelector: {}
      listeners:
      - {portMapping: {port: 8088, protocol: http}, connectionPool: {http: {maxConnections: 7, maxPendingRequests: 3}}}
    ---
    apiVersion: appmesh.k8s.aws/v1beta2
    kind: GatewayRoute
    metadata: {name: paint}
    spec:
      httpRoute:
        match: {prefix: /paint/, hostname: {suffix: .example.com}}
        action: {target: {virtualService: {virtualServiceRef: {name: color}}}}
    """

private func compile(_ from: String, options: CompileOptions = CompileOptions(), and more: String = "") throws -> CompiledNode {
    let loaded = MeshLoader.load(paths: ["-"], standardInput: mesh + more)
    try #require(!loaded.hasErrors, "\(loaded.diagnostics)")
    return try MeshCompiler.compile(loaded.resources, for: Explainer.subject(named: from, in: loaded.resources), options: options).get()
}

private func ask(_ url: String, _ method: String = "GET", _ headers: [(String, String)] = []) -> ExplainRequest {
    ExplainRequest(from: "front", method: method, url: url, headers: headers.map { HeaderField(name: $0.0, value: $0.1) })
}

extension Explanation {
    fileprivate func all(_ what: String) -> [Step] { steps.filter { $0.what == what } }

    fileprivate func only(_ what: String, _ name: String? = nil) throws -> Step {
        try #require(steps.first { $0.what == what && (name == nil || $0.name == name) }, "no \(what) \(name ?? "") in \(steps)")
    }
}

@Suite("Which way a request would take")
struct ExplainTests {
    @Test(
        "the route is the one that the proxy's table matches",
        arguments: [
            ("http://color.local/", "GET", [], "rest"),
            ("http://color.local:8080/a?b=c", "GET", [], "rest"),
            ("http://COLOR.local/a", "GET", [("X-Tester", "yes")], "testers"),
            ("http://color.local/a", "GET", [("x-tester", "no")], "rest"),
            ("http://color.local/mix/12?gloss=high", "POST", [], "mix"),
            ("http://color.local/mix/12?gloss=high", "GET", [], "rest"),
            ("http://color.local/mix/12?gloss=low", "POST", [], "rest"),
            ("http://color.local/mix/../mix/%312?gloss=high", "POST", [], "mix"),
            ("http://127.0.0.1:15001/", "GET", [("Host", "color.local")], "rest"),
            ("color.local", "GET", [], "rest"),
        ] as [(String, String, [(String, String)], String)])
    func route(url: String, method: String, headers: [(String, String)], expected: String) throws {
        let node = try compile("front")
        let explanation = try Explainer.explain(ask(url, method, headers), in: node)
        #expect(try explanation.only("route").name == expected)
        #expect(explanation.localReply == nil)

        // The same by the table itself.
        let configuration = try #require(node.snapshot.routeConfigurations.first { $0.name == "rds_egress_http_15001" })
        let host = headers.first { $0.0 == "Host" }?.1 ?? "color.local"
        let path = url.contains("/mix/..") ? "/mix/12?gloss=high" : url.split(separator: "/", maxSplits: 2).count < 3 ? "/" : pathOf(url)
        guard case .forward(let route, _) = try RouteTable(configuration).match(head(method, host, path, headers), random: 0) else {
            Issue.record("the table does not forward \(method) \(url)")
            return
        }
        #expect(route.name == expected)
    }

    private func pathOf(_ url: String) -> String {
        guard let scheme = url.firstRange(of: "://") else { return "/" }
        let rest = url[scheme.upperBound...]
        return rest.firstIndex(of: "/").map { String(rest[$0...]) } ?? "/"
    }

    private func head(_ method: String, _ host: String, _ path: String, _ headers: [(String, String)]) -> Head {
        let head = Head()
        func append(_ text: String) -> Range<Int> {
            head.bytes += text.utf8
            return head.bytes.count - text.utf8.count..<head.bytes.count
        }
        head.methodRange = append(method)
        head.authority = append(host)
        head.target = append(path)
        for (name, value) in headers {
            head.fields.append(Head.Field(name: append(name), value: append(value), known: KnownField(Array(name.utf8).span)))
        }
        return head
    }

    @Test("the steps go from the listener to the endpoints")
    func steps() throws {
        let explanation = try Explainer.explain(ask("http://color.local/"), in: compile("front"))
        let red = "cds_egress_m_red_default_http_8080"
        let blue = "cds_egress_m_blue_default_http_8080"
        #expect(
            explanation.steps.map { "\($0.what) \($0.name)" } == [
                "listener lds_egress_127.0.0.1_15001", "virtual host color.local", "route rest", "policy request",
                "target \(blue)", "policy \(blue)", "endpoint \(blue)", "target \(red)", "policy \(red)", "endpoint \(red)",
            ])
        #expect(try explanation.only("listener").text == "the application calls 127.0.0.1:15001 with Host: color.local")
        #expect(try explanation.only("target", red).text == "weight 9 of 10: 90% of these requests")
        #expect(try explanation.only("endpoint", blue).text == "named in the mesh's files\n10.0.0.7:8080")
        #expect(try explanation.only("endpoint", red).text.hasSuffix("\nred.example:8080"))
        let policy = try explanation.only("policy", red).text
        #expect(policy.contains("outlier detection: 5 errors in a row eject an endpoint for 30s, at most 50% of them"))
        // The pool of a listener is its own sidecar's.
        #expect(try explanation.only("policy", blue).text.contains("outlier detection: none\nconnection pool: no limits on this side"))
    }

    @Test("a route that comes before says which of its conditions did not hold")
    func passed() throws {
        let request = ask("http://color.local/mix/9?gloss=low", "GET", [("x-tester", "no")])
        let explanation = try Explainer.explain(request, in: compile("front"))
        #expect(
            try explanation.only("route").text == """
                number 3 of 3 routes, matches: path is /*
                not testers: header x-tester is yes does not hold (found no)
                not mix: method is POST does not hold (found GET); query parameter gloss is high does not hold
                """)
    }

    @Test("values that nobody wrote down are named, retries above all; those that were written are not")
    func silentDefaults() throws {
        let node = try compile("front")
        let silent = try Explainer.explain(ask("http://color.local/"), in: node).only("policy", "request")
        #expect(
            silent.silentDefaults == [
                "idle_timeout: 300s (App Mesh default)", "retry_policy: 2 retries (App Mesh default)", "timeout: 15s (App Mesh default)",
            ])
        let retries = "retries: 2 at most, on unavailable, connect-failure"
        #expect(silent.text.contains("timeout 15s for the whole request, idle timeout 300s\n\(retries)"))
        let given = try Explainer.explain(ask("http://color.local/", "GET", [("x-tester", "yes")]), in: node).only("policy", "request")
        #expect(given.silentDefaults == [])
        let one = "retries: 1 at most, on reset, retriable-status-codes"
        #expect(given.text.contains("timeout 3s for the whole request, idle timeout 4s\n\(one)"))
        let listener = try Explainer.explain(ask("http://color.local/"), in: node).only("listener")
        #expect(listener.silentDefaults.contains("address: 127.0.0.1:15001 (Outrigger default (Sidecar spec.outbound.http.bind))"))
        let cluster = try Explainer.explain(ask("http://color.local/"), in: node).only("policy", "cds_egress_m_red_default_http_8080")
        #expect(cluster.silentDefaults.contains("connect_timeout: 1s (App Mesh default)"))
    }

    @Test("policies of the caller's side are told in words, with who set them")
    func trafficPolicies() throws {
        let policies = """

            ---
            apiVersion: outrigger/v1
            kind: TrafficPolicy
            metadata: {name: red}
            spec:
              targetRef: {kind: VirtualNode, name: red}
              resilience: standard
              serviceBreaker: {failurePercent: 60}
              limits: {maxRequests: 100}
            ---
            apiVersion: outrigger/v1
            kind: TrafficPolicy
            metadata: {name: rest}
            spec:
              targetRef: {kind: VirtualRouter, name: color, route: rest}
              timeout: 5s
              retries: {maxRetries: 3, hedge: {after: 200ms}}
              rateLimit: {requests: 100, burst: 50}
              fault: {delay: {fixed: 2s, percent: 0.5}, headers: [{name: x-chaos, match: {exact: "on"}}]}
              mirror: [{virtualNode: {name: blue}, percent: 10}]
              headers: {request: {set: {x-load: "1"}}}
            """
        let explanation = try Explainer.explain(ask("http://color.local/"), in: compile("front", and: policies))
        let route = try explanation.only("policy", "request")
        for line in [
            "timeout 5s for the whole request, idle timeout 300s",
            "retries: 3 at most, on 5xx, connect-failure, refused-stream, reset, unavailable, 1s a try, and what the endpoint may have begun "
                + "only if the method may be repeated",
            "the first goes at once to another endpoint, the next within 0.075s, later ones within 0.250s",
            "without an answer after 0.200s a second attempt goes beside the first",
            "rate limit: 100 requests in 1s, 50 at once; more get 429",
            "fault injected: 0.5% of the requests wait 2s, where header x-chaos is on",
            "a copy of 10% of the requests goes to cds_egress_m_blue_default_http_8080, whose answer nobody sees",
            "headers of the request: x-load is set to \"1\"",
        ] { #expect(route.text.split(separator: "\n").contains(Substring(line)), "\(line) in\n\(route.text)") }
        #expect(route.silentDefaults.contains("timeout: 5s (TrafficPolicy/rest)"))
        let cluster = try explanation.only("policy", "cds_egress_m_red_default_http_8080")
        for line in [
            "HTTP/1.1, peak EWMA (by latency), connect timeout 1s",
            "each endpoint has a breaker: 3 errors in a row, or 50% failed or 80% took longer than 5s of the last 20 calls, if there were 20: "
                + "open for 2s, 160% of that the next time in a row, 30s at most; then 3 calls must show that it is well; the load comes "
                + "back over 10s",
            "at most 50% of the endpoints are out, and only those that fail 30 percentage points more often than the median",
            "beyond that 64 requests wait, 0.100s at most",
            "retries of all: at most 20% of the requests under way, 3 in any case",
        ] { #expect(cluster.text.split(separator: "\n").contains(Substring(line)), "\(line) in\n\(cluster.text)") }
        #expect(cluster.text.contains("the service as a whole has a breaker: 60% failed of the calls of the last 10s"))
        #expect(cluster.silentDefaults.contains("outlier_detection: none (TrafficPolicy/red: standard: endpointBreaker takes its place)"))
    }

    @Test(
        "the virtual host says which of its domains it was",
        arguments: [
            ("http://color.local/", "color.local", "its domain is exactly color.local"),
            ("http://color.local:8080/", "color.local", "its domain is exactly color.local:8080"),
            ("http://color.local:9/", "color.local:*", "its domain color.local:* takes every port of the host that no other domain names"),
        ])
    func virtualHost(url: String, name: String, reason: String) throws {
        let step = try Explainer.explain(ask(url), in: compile("front")).only("virtual host")
        #expect(step.name == name)
        #expect(step.text == reason)
    }

    @Test(
        "what the proxy answers by itself is said",
        arguments: [
            ("http://color.local:9/", "404: no route of color.local:* takes this request"),
            ("http://nowhere.local/", "404: no route of nowhere.local takes this request"),
            ("http://red.local/", "404: nothing is known here for the host red.local"),
            ("http://color.local/%00", "400: malformed path: encodedNUL"),
            (
                "http://store.local:5432/",
                "404: nothing is known here for the host store.local:5432; store.local is a tcp service, at 127.0.0.1:5432: ask for "
                    + "tcp://store.local"
            ),
        ])
    func localReply(url: String, expected: String) throws {
        #expect(try Explainer.explain(ask(url), in: compile("front")).localReply == expected)
    }

    @Test("calls that leave the mesh are dropped by default, and the default is named")
    func egressFilter() throws {
        let step = try Explainer.explain(ask("http://red.local/"), in: compile("front")).only("virtual host")
        #expect(step.text.contains("mesh.egress_filter: DROP_ALL (App Mesh default: calls to anything but the backends get 404)"))
    }

    @Test("tcp:// asks for a service's own listener")
    func tcp() throws {
        let explanation = try Explainer.explain(ask("tcp://store.local:5432"), in: compile("front"))
        #expect(explanation.steps.map(\.what) == ["listener", "policy", "target", "policy", "endpoint"])
        #expect(try explanation.only("listener").text == "the application calls 127.0.0.1:5432, which is store.local and nothing else")
        #expect(try explanation.only("endpoint").text.hasSuffix("\nstore.example:5432"))
        let none = try Explainer.explain(ask("tcp://color.local"), in: compile("front"))
        #expect(none.localReply == "no tcp listener for color.local: there are store.local at 127.0.0.1:5432")
    }

    @Test("a gateway: its listener, both passes, rewrites, and what it does not believe")
    func gateway() throws {
        let node = try compile("edge")
        let request = ask("http://shop.example.com:8088/paint/a", "GET", [("x-envoy-secret", "1")])
        let explanation = try Explainer.explain(request, in: node)
        #expect(try explanation.only("listener").text == "callers reach 0.0.0.0:8088")
        let host = try explanation.only("virtual host")
        #expect(host.name == "*.example.com")
        #expect(host.text == "its domain *.example.com is the longest wildcard that fits shop.example.com:8088")
        let route = try explanation.only("route")
        #expect(route.name == "paint/rest")
        #expect(route.text.contains("x-envoy-secret: taken away first"))
        let policy = try explanation.only("policy", "request")
        #expect(policy.text.contains("path becomes /a\nhost becomes color.local"))
        #expect(policy.silentDefaults.contains("prefix_rewrite: / (App Mesh default)"))
        let cluster = try explanation.only("policy", "cds_egress_m_red_default_http_8080").text
        #expect(cluster.contains("connection pool: at most 7 connections, 3 waiting requests"))
        let tls = try Explainer.explain(ask("https://shop.example.com:8088/"), in: node)
        #expect(tls.localReply == "closed: the listener takes no TLS, call it by http://")
        let other = try Explainer.explain(ask("http://shop.example.com/paint/"), in: node)
        #expect(try other.only("listener").text.hasSuffix("port 80 is not its own, but it is the only listener"))
    }

    @Test("endpoints of registered proxies are those that the control plane hands over")
    func registered() throws {
        let blue = ResourceKey(kind: .virtualNode, namespace: "default", name: "blue")
        let node = try compile("front", options: CompileOptions(registeredNodes: [blue]))
        let request = ask("http://color.local/", "GET", [("x-tester", "yes")])
        let name = "cds_egress_m_blue_default_http_8080"
        let without = try Explainer.explain(request, in: node)
        #expect(without.localReply == "503: no endpoint is known")
        let assignment = ClusterLoadAssignment(
            clusterName: name, localities: [LocalityEndpoints(endpoints: [Endpoint(host: .ip(.v4(0x0a00_0001)), port: 15000)])])
        let with = try Explainer.explain(request, in: node, assignments: [assignment])
        #expect(with.localReply == nil)
        #expect(
            try with.only("endpoint").text
                == "the registered proxies of VirtualNode/blue in namespace \"default\", port 8080\n10.0.0.1:15000")
    }

    @Test(
        "a question that is none says what it should be",
        arguments: [
            ("ftp://x/", "GET", "expected http://, https:// or tcp://"), ("http:///x", "GET", "expected scheme://host[:port]/path"),
            ("http://x:99999/", "GET", "expected a port from 1 through 65535"), ("http://x/", "G T", "expected a word such as GET"),
        ])
    func badQuestion(url: String, method: String, expected: String) throws {
        let node = try compile("front")
        let error = try #require(throws: ExplainError.self) { try Explainer.explain(ask(url, method), in: node) }
        #expect(error.description.contains(expected))
    }

    @Test("who asks is found by each of its names, and not found with a list")
    func subject() throws {
        for name in ["front", "front.default", "default/front", "front_default"] {
            #expect(try compile(name).snapshot.node.name == "front_default")
        }
        #expect(try compile("edge").snapshot.node.role == .virtualGateway)
        let error = try #require(throws: ExplainError.self) { try compile("nobody") }
        #expect(error.description.hasPrefix("no VirtualNode or VirtualGateway is called \"nobody\"; there are\n"))
    }
}
