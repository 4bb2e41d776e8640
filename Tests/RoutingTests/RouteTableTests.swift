import Base
import HTTP
import ProxyConfig
import Testing

@testable import Routing

/// The name of the chosen route, or why there is none.
private func decide(_ table: RouteTable, _ head: Head, random: UInt64 = 0) -> String {
    switch table.match(head, random: random) {
    case .forward(let route, _): route.name
    case .reply(let route, _): route.name
    case .noRoute(let host): "no route in \(table.virtualHostNames[host])"
    case .noVirtualHost: "no virtual host"
    }
}

private func holds(_ match: RouteMatch, _ head: Head) throws -> Bool {
    let table = try RouteTable(configuration([route("yes", match)]))
    return decide(table, head) == "yes"
}

@Suite("Virtual hosts")
struct VirtualHostTests {
    @Test(
        "Exact beats suffix beats prefix beats all, longer wildcards beat shorter ones, host:port comes before host",
        arguments: [
            ("a.example", "exact"),
            ("A.Example", "exact"),
            ("a.example:8080", "exact with port"),
            ("a.example:9", "exact"),
            ("a.example:", "exact"),
            ("x.b.example", "suffix"),
            ("x.b.example:80", "suffix"),
            ("x.y.B.EXAMPLE", "suffix"),
            ("x.c.b.example", "longer suffix"),
            ("b.example", "shorter suffix"),
            (".b.example", "shorter suffix"),
            ("x.b.example:81", "suffix with port"),
            ("www.x", "prefix"),
            ("www.a.x", "longer prefix"),
            ("www.example", "shorter suffix"),
            ("www.", "all"),
            ("www.a.", "prefix"),
            ("other", "all"),
            ("", "all"),
            ("[::1]", "exact v6"),
            ("[::1]:80", "exact v6"),
            ("d.net", "bare host"),
            ("d.net:80", "its port"),
            ("D.net:81", "its other ports"),
            ("d.network:81", "all"),
            ("[::1]:81", "exact v6 with port"),
            ("::1", "all"),
            ("cafe:80:80", "all"),
        ])
    func precedence(host: String, expected: String) throws {
        let domains = [
            ("all", "*"), ("exact", "a.example"), ("exact with port", "a.Example:8080"), ("shorter suffix", "*.example"),
            ("suffix", "*.b.example"), ("longer suffix", "*.c.b.example"), ("suffix with port", "*.b.example:81"), ("prefix", "www.*"),
            ("longer prefix", "WWW.a.*"), ("exact v6", "[::1]"), ("exact v6 with port", "[::1]:81"), ("bare", "cafe:80"),
            ("bare host", "d.net"), ("its port", "d.net:80"), ("its other ports", "d.net:*"),
        ]
        let table = try RouteTable(
            configuration(domains.map { VirtualHost(name: $0.0, domains: [$0.1], routes: [route($0.0, RouteMatch(path: .prefix("/")))]) }))
        #expect(decide(table, request("/", host: host)) == expected)
    }

    @Test("Without a fitting domain there is no virtual host, without a fitting route no route")
    func nothing() throws {
        let table = try RouteTable(
            configuration([VirtualHost(name: "one", domains: ["one"], routes: [route("r", RouteMatch(path: .prefix("/a")))])]))
        #expect(decide(table, request("/a", host: "two")) == "no virtual host")
        #expect(decide(table, request("/b", host: "one")) == "no route in one")
        #expect(decide(table, request("/a", host: "one")) == "r")
        #expect(decide(try RouteTable(configuration([VirtualHost]())), request("/")) == "no virtual host")
    }

    @Test("Every one of many domains is found, and no other")
    func many() throws {
        let hosts = (0..<500).map { number in
            VirtualHost(
                name: "\(number)", domains: ["s\(number).mesh", "*.w\(number).mesh"],
                routes: [route("\(number)", RouteMatch(path: .prefix("/")))])
        }
        let table = try RouteTable(configuration(hosts))
        for number in 0..<500 {
            #expect(decide(table, request("/", host: "S\(number).mesh:80")) == "\(number)")
            #expect(decide(table, request("/", host: "x.W\(number).mesh")) == "\(number)")
            #expect(decide(table, request("/", host: "t\(number).mesh")) == "no virtual host")
        }
    }
}

@Suite("Conditions of routes")
struct RouteConditionTests {
    @Test("Routes are tried in order")
    func order() throws {
        let table = try RouteTable(
            configuration([
                route("exact", RouteMatch(path: .exact("/a/b"))), route("long", RouteMatch(path: .prefix("/a/"))),
                route("header", RouteMatch(path: .prefix("/"), headers: [HeaderMatcher(name: "x-a", condition: .present)])),
                route("short", RouteMatch(path: .prefix("/"))), route("never", RouteMatch(path: .exact("/z"))),
            ]))
        #expect(decide(table, request("/a/b")) == "exact")
        #expect(decide(table, request("/a/bc")) == "long")
        #expect(decide(table, request("/a", [("X-A", "")])) == "header")
        #expect(decide(table, request("/z")) == "short")
    }

    @Test(
        "Paths are matched without their query",
        arguments: [
            (.prefix("/"), "/", true),
            (.prefix("/"), "/x?y", true),
            (.prefix("/a"), "/a", true),
            (.prefix("/a"), "/ab", true),
            (.prefix("/a"), "/?/a", false),
            (.prefix("/a"), "/A", false),
            (.prefix("/a/"), "/a", false),
            (.prefix("/abcdefgh/ij"), "/abcdefgh/ijk", true),
            (.prefix("/abcdefgh/ij"), "/abXdefgh/ijk", false),
            (.prefix("/abcdefgh/ij"), "/abcdefgh/iJk", false),
            (.prefix("/abcdefgh/ij"), "/abcdefgh/i", false),
            (.exact("/0123456789abcdef"), "/0123456789abcdef", true),
            (.exact("/0123456789abcdef"), "/0123456789abcdeF", false),
            (.prefix("/a?"), "/a", nil),
            (.prefix("a"), "/a", nil),
            (.prefix(""), "/a", true),
            (.prefix(""), "*", true),
            (.prefix("/"), "*", false),
            (.prefix("//a"), "/a", true),
            (.prefix("/."), "/.well-known", true),
            (.prefix("/caf%c3%a9"), "/caf%C3%A9s", true),
            (.prefix("/a%2"), "/a", nil),
            (.exact("/a"), "/a", true),
            (.exact("/a"), "/a?b", true),
            (.exact("/a"), "/a/", false),
            (.exact("/a"), "/ab", false),
            (.exact("/x/../a"), "/a", true),
            (.exact("*"), "*", true),
            (.exact(""), "/", nil),
            (.regex("/a+"), "/aaa?b", true),
            (.regex("/a+"), "/aaab", false),
            (.regex("a+"), "/a", false),
            (.regex("/(a"), "/a", nil),
        ] as [(RouteMatch.Path, String, Bool?)])
    func path(path: RouteMatch.Path, target: String, expected: Bool?) throws {
        guard let expected else {
            #expect(throws: RouteTableErrors.self) { try holds(RouteMatch(path: path), request(target)) }
            return
        }
        #expect(try holds(RouteMatch(path: path), request(target)) == expected)
    }

    @Test(
        "Header conditions, one row each way",
        arguments: [
            (.present, ["v"], true),
            (.present, [""], true),
            (.present, ["a", "b"], true),
            (.present, [], false),
            (.exact("v"), ["v"], true),
            (.exact("v"), ["V"], false),
            (.exact("v"), ["vv"], false),
            (.exact("v"), [], false),
            (.exact(""), [""], true),
            (.exact("a,b"), ["a", "b"], true),
            (.exact("a,b"), ["a,b"], true),
            (.exact("a"), ["a", "b"], false),
            (.exact("b"), ["a", "b"], false),
            (.exact("a,b"), ["a", "b", ""], false),
            (.exact("a,,b"), ["a", "", "b"], true),
            (.prefix("ab"), ["abc"], true),
            (.prefix("ab"), ["a"], false),
            (.prefix("ab"), ["xab"], false),
            (.prefix("a,b"), ["a", "bc"], true),
            (.prefix("a,b"), ["a", "c"], false),
            (.prefix("a,b"), ["a"], false),
            (.prefix("a,b"), ["a", ""], false),
            (.suffix("bc"), ["abc"], true),
            (.suffix("bc"), ["c"], false),
            (.suffix("bc"), ["bcd"], false),
            (.suffix("a,b"), ["xa", "b"], true),
            (.suffix("a,b"), ["a", "xb"], false),
            (.suffix("abc,d"), ["c", "d"], false),
            (.regex("a+"), ["aa"], true),
            (.regex("a+"), ["aab"], false),
            (.regex("a+"), ["a", "a"], false),
            (.regex("a+,a+"), ["aa", "a"], true),
            (.regex("(?s).{600,1000}"), ["x"], false),
            (.regex(".*a.{30}.*"), ["a" + String(repeating: "x", count: 20), String(repeating: "y", count: 20)], true),
            (.regex(".*a.{30}.*"), ["a" + String(repeating: "x", count: 10), String(repeating: "y", count: 10)], false),
            (.range(start: -5, end: 10), ["-5"], true),
            (.range(start: -5, end: 10), ["9"], true),
            (.range(start: -5, end: 10), ["10"], false),
            (.range(start: -5, end: 10), ["-6"], false),
            (.range(start: -5, end: 10), ["+7"], true),
            (.range(start: -5, end: 10), ["007"], true),
            (.range(start: -5, end: 10), ["7 "], false),
            (.range(start: -5, end: 10), ["0x7"], false),
            (.range(start: -5, end: 10), ["-"], false),
            (.range(start: -5, end: 10), [""], false),
            (.range(start: -5, end: 10), ["7", "7"], false),
            (.range(start: .min, end: .max), ["-9223372036854775808"], true),
            (.range(start: .min, end: .max), ["9223372036854775807"], false),
            (.range(start: .min, end: .max), ["9223372036854775808"], false),
            (.range(start: .min, end: .max), ["99999999999999999999"], false),
        ] as [(HeaderMatcher.Condition, [String], Bool)])
    func header(condition: HeaderMatcher.Condition, values: [String], expected: Bool) throws {
        for (name, sent) in [("x-tag", "X-Tag"), ("user-agent", "User-Agent")] {
            let head = request("/", [("x-ta", "no")] + values.map { (sent, $0) } + [("x-tag2", "no")])
            let matcher = HeaderMatcher(name: name, condition: condition)
            #expect(try holds(RouteMatch(path: .prefix("/"), headers: [matcher]), head) == expected)
            // Envoy: without the header an inverted matcher fails, too, unless it asks for presence.
            let inverted = HeaderMatcher(name: name, condition: condition, isInverted: true)
            let expectedInverted = values.isEmpty ? condition == .present : !expected
            #expect(try holds(RouteMatch(path: .prefix("/"), headers: [inverted]), head) == expectedInverted)
        }
    }

    @Test(
        "The parts of the request line are headers, too",
        arguments: [
            (":method", .exact("GET"), true),
            (":method", .exact("get"), false),
            (":method", .regex("GET|POST"), true),
            (":scheme", .exact("https"), true),
            (":scheme", .exact("http"), false),
            (":scheme", .prefix("http"), true),
            (":scheme", .regex("https?"), true),
            (":scheme", .present, true),
            (":authority", .suffix(".example:80"), true),
            (":authority", .exact("a.example"), false),
            ("host", .exact("a.example:80"), true),
            ("Host", .exact("a.example:80"), true),
            (":path", .exact("/p?q=1"), true),
            (":path", .suffix("q=1"), true),
            (":path", .exact("/p"), false),
        ] as [(String, HeaderMatcher.Condition, Bool)])
    func pseudoHeader(name: String, condition: HeaderMatcher.Condition, expected: Bool) throws {
        let head = request("/p?q=1", host: "a.example:80", scheme: .https)
        let matcher = HeaderMatcher(name: name, condition: condition)
        #expect(try holds(RouteMatch(path: .prefix("/"), headers: [matcher]), head) == expected)
        let inverted = HeaderMatcher(name: name, condition: condition, isInverted: true)
        #expect(try holds(RouteMatch(path: .prefix("/"), headers: [inverted]), head) == !expected)
    }

    @Test("All headers must match")
    func allHeaders() throws {
        let match = RouteMatch(
            path: .prefix("/"),
            headers: [HeaderMatcher(name: "a", condition: .exact("1")), HeaderMatcher(name: "b", condition: .present, isInverted: true)])
        #expect(try holds(match, request("/", [("a", "1")])))
        #expect(try !holds(match, request("/", [("a", "1"), ("b", "")])))
        #expect(try !holds(match, request("/", [("b", "1")])))
    }

    @Test(
        "Query parameters are compared undecoded, and the first of a name counts",
        arguments: [
            ("a", nil, "/?a", true),
            ("a", nil, "/?a=", true),
            ("a", nil, "/?b&a=1", true),
            ("a", nil, "/", false),
            ("a", nil, "/?", false),
            ("a", nil, "/?aa", false),
            ("a", nil, "/?b=a", false),
            ("a", nil, "/?%61", false),
            ("a", nil, "/a?", false),
            ("a", "1", "/?a=1", true),
            ("a", "1", "/?b&&a=1&c", true),
            ("a", "1", "/?a=12", false),
            ("a", "1", "/?a=%31", false),
            ("a", "1", "/?a=2&a=1", false),
            ("a", "1", "/?a=1&a=2", true),
            ("a", "1=2", "/?a=1=2", true),
            ("a", "", "/?a", true),
            ("a", "", "/?a=1", false),
            ("a", "?", "/?a=?", true),
        ] as [(String, String?, String, Bool)])
    func query(name: String, exact: String?, target: String, expected: Bool) throws {
        let match = RouteMatch(path: .prefix("/"), queryParameters: [QueryParameterMatcher(name: name, exact: exact)])
        #expect(try holds(match, request(target)) == expected)
    }

    @Test(
        "gRPC is told by its content type",
        arguments: [
            (["application/grpc"], true),
            (["Application/GRPC"], true),
            (["application/grpc+proto"], true),
            (["application/grpc-web"], false),
            (["application/grpcx"], false),
            (["application/json"], false),
            (["application/grp"], false),
            ([], false),
            (["application/grpc", "application/json"], false),
        ])
    func grpc(types: [String], expected: Bool) throws {
        let match = RouteMatch(path: .prefix("/"), requiresGRPC: true)
        #expect(try holds(match, request("/s/m", types.map { ("content-type", $0) })) == expected)
    }
}

@Suite("Decisions")
struct DecisionTests {
    @Test("A direct reply is a decision with its body ready")
    func reply() throws {
        let table = try RouteTable(
            configuration([Route(name: "r", match: RouteMatch(path: .prefix("/")), action: .reply(DirectReply(status: 503, body: "off")))]))
        guard case .reply(let route, let reply) = table.match(request("/"), random: 0) else {
            Issue.record("no reply")
            return
        }
        #expect(route.name == "r")
        #expect(reply.status == 503)
        #expect(reply.body == Array("off".utf8))
    }

    @Test("A route carries its place, its virtual host and its times")
    func compiled() throws {
        let action = ForwardAction(
            target: .cluster("c"), timeout: .milliseconds(1500), idleTimeout: .zero,
            retryPolicy: RetryPolicy(retryOn: ["reset"], maxRetries: 2, perTryTimeout: .seconds(1)))
        let table = try RouteTable(
            configuration([
                VirtualHost(name: "v0", domains: ["v0"], routes: [route("r0", RouteMatch(path: .prefix("/")), to: "b")]),
                VirtualHost(
                    name: "v1", domains: ["v1"],
                    routes: [
                        route("r1", RouteMatch(path: .exact("/x")), to: "c"),
                        Route(name: "r2", match: RouteMatch(path: .prefix("/")), action: .forward(action)),
                    ]),
            ]))
        #expect(table.clusterNames == ["b", "c"])
        #expect(table.routes.map(\.index) == [0, 1, 2])
        guard case .forward(let route, let cluster) = table.match(request("/", host: "v1"), random: 7) else {
            Issue.record("no route")
            return
        }
        #expect(cluster == 1)
        #expect(route === table.routes[2])
        #expect(route.virtualHostIndex == 1)
        #expect(route.virtualHostName == "v1")
        #expect(route.timeout == .milliseconds(1500))
        #expect(route.idleTimeout == nil)
        #expect(route.perTryTimeout == .seconds(1))
        #expect(route.retryPolicy?.maxRetries == 2)
        #expect(route.reply == nil)
    }

    @Test(
        "Of every total of evenly spread choices a cluster gets its weight",
        arguments: [[1, 1], [1, 2, 3], [0, 5, 0, 2], [90, 10], [7]])
    func weights(weights: [UInt32]) throws {
        let clusters = weights.enumerated().map { WeightedCluster(name: "c\($0.offset)", weight: $0.element) }
        let table = try RouteTable(
            configuration([
                Route(name: "r", match: RouteMatch(path: .prefix("/")), action: .forward(ForwardAction(target: .weighted(clusters))))
            ]))
        let total = weights.reduce(0) { UInt64($0) + UInt64($1) } as UInt64
        let head = request("/")
        var counts = [UInt32](repeating: 0, count: weights.count)
        for step in 0..<total {
            // The middle of part number `step` of the whole range.
            let random = (2 * step + 1).dividingFullWidth(by: 2 * total).quotient
            guard case .forward(let route, let cluster) = table.match(head, random: random) else { continue }
            #expect(route.clusterOrdinal(random: random) == cluster)
            counts[cluster] += 1
        }
        #expect(counts == weights)
        #expect(table.routes[0].clusterOrdinal(random: .max) == weights.lastIndex { $0 > 0 })
    }
}

extension UInt64 {
    /// `self` times 2^64, divided by `divisor`, which is larger.
    fileprivate func dividingFullWidth(by divisor: UInt64) -> (quotient: UInt64, remainder: UInt64) {
        divisor.dividingFullWidth((high: self, low: 0))
    }
}

@Suite("Errors of a route configuration")
struct RouteTableErrorTests {
    @Test("All are reported at once, each with its place")
    func all() throws {
        let routes = [
            route("regex", RouteMatch(path: .regex("/(a"), headers: [HeaderMatcher(name: "x", condition: .regex("a\\1"))])),
            route("header", RouteMatch(path: .prefix("/"), headers: [HeaderMatcher(name: "a b", condition: .present)])),
            route("pseudo", RouteMatch(path: .prefix("/"), headers: [HeaderMatcher(name: ":status", condition: .present)])),
            route("range", RouteMatch(path: .prefix("/"), headers: [HeaderMatcher(name: "a", condition: .range(start: 2, end: 2))])),
            Route(name: "none", match: RouteMatch(path: .prefix("/")), action: .forward(ForwardAction(target: .weighted([])))),
            Route(
                name: "zero", match: RouteMatch(path: .prefix("/")),
                action: .forward(ForwardAction(target: .weighted([WeightedCluster(name: "", weight: 0)])))),
            Route(name: "status", match: RouteMatch(path: .prefix("/")), action: .reply(DirectReply(status: 99))),
            Route(
                name: "times", match: RouteMatch(path: .prefix("/")),
                action: .forward(ForwardAction(target: .cluster("c"), timeout: .seconds(-1), idleTimeout: .seconds(-2)))),
            Route(
                name: "rewrites", match: RouteMatch(path: .prefix("/")),
                action: .forward(ForwardAction(target: .cluster("c"), pathRewrite: .prefix("x"), hostRewrite: .literal("a b")))),
            Route(
                name: "full", match: RouteMatch(path: .prefix("/")),
                action: .forward(ForwardAction(target: .cluster("c"), pathRewrite: .full("/a?b")))),
            route("parameter", RouteMatch(path: .prefix("/"), queryParameters: [QueryParameterMatcher(name: "")])),
        ]
        let hosts = [
            VirtualHost(name: "a", domains: ["x", "X", "", "a*b", "*.*"], routes: routes), VirtualHost(name: "b", domains: [], routes: []),
            VirtualHost(name: "b", domains: ["y", "x"], routes: []),
        ]
        let errors = #expect(throws: RouteTableErrors.self) { try RouteTable(configuration(hosts)) }
        #expect(
            errors?.errors.map(\.path.description) == [
                "virtual_hosts[0].domains[1]", "virtual_hosts[0].domains[2]", "virtual_hosts[0].domains[3]", "virtual_hosts[0].domains[4]",
                "virtual_hosts[0].routes[0].match.safe_regex.regex", "virtual_hosts[0].routes[0].match.headers[0].safe_regex.regex",
                "virtual_hosts[0].routes[1].match.headers[0].name", "virtual_hosts[0].routes[2].match.headers[0].name",
                "virtual_hosts[0].routes[3].match.headers[0].range_match", "virtual_hosts[0].routes[4].route.weighted_clusters.clusters",
                "virtual_hosts[0].routes[5].route.weighted_clusters.clusters[0].name",
                "virtual_hosts[0].routes[5].route.weighted_clusters.clusters", "virtual_hosts[0].routes[6].direct_response.status",
                "virtual_hosts[0].routes[7].route.timeout", "virtual_hosts[0].routes[7].route.idle_timeout",
                "virtual_hosts[0].routes[8].route.prefix_rewrite", "virtual_hosts[0].routes[8].route.host_rewrite_literal",
                "virtual_hosts[0].routes[9].route.regex_rewrite.substitution",
                "virtual_hosts[0].routes[10].match.query_parameters[0].name", "virtual_hosts[1].domains", "virtual_hosts[2].name",
                "virtual_hosts[2].domains[1]",
            ])
    }

    @Test("An error says what stands there and what should")
    func message() {
        let errors = #expect(throws: RouteTableErrors.self) {
            try RouteTable(configuration([route("r", RouteMatch(path: .regex("/a(?=b)")))]))
        }
        #expect(
            errors?.description
                == """
                virtual_hosts[0].routes[0].match.safe_regex.regex: expected a pattern in RE2's syntax, \
                found /a(?=b) (invalid perl operator: (?=)
                """
        )
    }
}
