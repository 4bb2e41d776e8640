import Base
import HTTP
import ProxyConfig

/// Turns a route configuration into the parts of a table, and collects every error on the way.
struct RouteTableBuilder {
    var errors: [FieldError] = []
    var routes: [CompiledRoute] = []
    var clusterNames: [String] = []
    var domains = DomainIndex()
    var hosts: [Range<Int>] = []
    var conditions = RouteConditions()

    private var clusterOrdinals: [String: Int] = [:]
    private var regexNumbers: [String: Int] = [:]
    private var regexBudget = LinearRegex.Budget()

    private mutating func fail(_ path: FieldPath, expected: String, found: String) {
        errors.append(FieldError(path: path, expected: expected, found: found))
    }

    mutating func add(_ configuration: RouteConfiguration) {
        var names: Set<String> = []
        for (index, host) in configuration.virtualHosts.enumerated() {
            let path = (FieldPath() / "virtual_hosts")[index]
            if !names.insert(host.name).inserted {
                fail(path / "name", expected: "a name that no other virtual host has", found: host.name)
            }
            if host.domains.isEmpty { fail(path / "domains", expected: "at least one domain", found: "none") }
            for (number, domain) in host.domains.enumerated() { add(domain, host: index, (path / "domains")[number]) }
            let first = conditions.entries.count
            for (number, route) in host.routes.enumerated() {
                add(route, host: index, hostName: host.name, (path / "routes")[number])
            }
            hosts.append(first..<conditions.entries.count)
        }
    }

    private mutating func add(_ domain: String, host: Int, _ path: FieldPath) {
        let inner = domain.utf8.dropFirst(domain.hasPrefix("*") ? 1 : 0)
        let middle = inner.dropLast(domain.hasPrefix("*") || !domain.hasSuffix("*") ? 0 : 1)
        let isValid = domain == "*" || !middle.isEmpty && middle.allSatisfy { $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "*") }
        if !isValid {
            fail(path, expected: "host, host:port, host:*, *.suffix, prefix.* or *", found: domain.isEmpty ? "an empty string" : domain)
        } else if !domains.insert(domain, host: host) {
            fail(path, expected: "a domain that stands nowhere else in this configuration", found: domain)
        }
    }

    private mutating func add(_ route: Route, host: Int, hostName: String, _ path: FieldPath) {
        let (condition, matched) = compile(route.match.path, path / "match")
        let firstHeader = conditions.headers.count
        for (index, matcher) in route.match.headers.enumerated() {
            if let header = compile(matcher, (path / "match" / "headers")[index]) { conditions.headers.append(header) }
        }
        let firstParameter = conditions.parameters.count
        for (index, matcher) in route.match.queryParameters.enumerated() {
            if matcher.name.isEmpty {
                fail((path / "match" / "query_parameters")[index] / "name", expected: "a parameter's name", found: "an empty string")
            }
            conditions.parameters.append(.init(name: store(matcher.name.utf8), exact: matcher.exact.map { store($0.utf8) }))
        }
        conditions.entries.append(
            .init(
                path: condition, headers: firstHeader..<conditions.headers.count, parameters: firstParameter..<conditions.parameters.count,
                requiresGRPC: route.match.requiresGRPC))

        var targets = WeightedTargets()
        var mirrors: [CompiledMirror] = []
        var pathRewrite = CompiledRoute.PathRewrite.none
        var hostRewrite: [UInt8]?
        switch route.action {
        case .forward(let forward):
            targets = compile(forward.target, path / "route")
            mirrors = forward.mirrors.enumerated().map { index, mirror in
                let place = (path / "route" / "request_mirror_policies")[index]
                return CompiledMirror(ordinal: ordinal(mirror.cluster, place / "cluster"), share: mirror.share)
            }
            pathRewrite = compile(forward.pathRewrite, matched: matched, path / "route")
            hostRewrite = compile(forward.hostRewrite, path / "route")
            checkTimes(forward, path / "route")
        case .reply(let reply):
            if !(200...599 ~= reply.status) {
                fail(path / "direct_response" / "status", expected: "a status from 200 through 599", found: "\(reply.status)")
            }
        }
        routes.append(
            CompiledRoute(
                index: routes.count, virtualHostIndex: host, virtualHostName: hostName, configuration: route, targets: targets,
                mirrors: mirrors, pathRewrite: pathRewrite, hostRewrite: hostRewrite))
        check(route.requestHeaders, "request", path)
        check(route.responseHeaders, "response", path)
    }

    /// What frames a message, belongs to one hop, or is decided elsewhere, nobody changes as a header.
    private mutating func check(_ changes: HeaderChanges, _ side: String, _ path: FieldPath) {
        let names = changes.remove + (changes.set + changes.add).map(\.name)
        for name in names where !HeaderChanges.mayChange(name.lowercased()) {
            fail(
                path / (changes.remove.contains(name) ? "\(side)_headers_to_remove" : "\(side)_headers_to_add"),
                expected: "the name of an end-to-end header", found: name.isEmpty ? "an empty string" : name)
        }
        for field in changes.set + changes.add where !HeaderChanges.isValue(field.value) {
            fail(path / "\(side)_headers_to_add" / field.name, expected: "a value of printable characters", found: field.value)
        }
    }

    private mutating func store(_ bytes: some Sequence<UInt8>) -> RouteConditions.Text {
        let start = conditions.text.count
        conditions.text.append(contentsOf: bytes)
        return .init(start: UInt32(start), count: UInt32(conditions.text.count - start))
    }

    /// Equal patterns are one automaton.
    private mutating func compile(regex pattern: String, _ path: FieldPath) -> Int {
        if let number = regexNumbers[pattern] { return number }
        do {
            conditions.regexes.append(try LinearRegex(pattern, budget: &regexBudget))
            regexNumbers[pattern] = conditions.regexes.count - 1
        } catch {
            fail(path / "safe_regex" / "regex", expected: "a pattern in RE2's syntax", found: "\(pattern) (\(error))")
        }
        return conditions.regexes.count - 1
    }

    // MARK: Conditions

    /// The condition, and how many bytes of a path it matches where that is known (nil = all of it).
    private mutating func compile(_ match: RouteMatch.Path, _ path: FieldPath) -> (RouteConditions.Path, matched: Int?) {
        switch match {
        case .prefix(let text):
            let bytes = text.isEmpty ? [] : PathNormalizer.pattern(text, isPrefix: true)
            if bytes == nil { fail(path / "prefix", expected: "the start of a path, without query", found: text) }
            let stored = store(bytes ?? [])
            return (.prefix(stored), Int(stored.count))
        case .exact(let text):
            // `*` is the target of OPTIONS * (RFC 9112 section 3.2.4).
            let bytes = text == "*" ? [UInt8(ascii: "*")] : PathNormalizer.pattern(text, isPrefix: false)
            if bytes == nil { fail(path / "path", expected: "a path, without query", found: text) }
            return (.exact(store(bytes ?? [])), nil)
        case .regex(let pattern):
            return (.regex(compile(regex: pattern, path)), nil)
        }
    }

    private mutating func compile(_ matcher: HeaderMatcher, _ path: FieldPath) -> RouteConditions.Header? {
        let condition: RouteConditions.Header.Condition
        switch matcher.condition {
        case .present: condition = .present
        case .exact(let text): condition = .exact(store(text.utf8))
        case .prefix(let text): condition = .prefix(store(text.utf8))
        case .suffix(let text): condition = .suffix(store(text.utf8))
        case .regex(let pattern): condition = .regex(compile(regex: pattern, path))
        case .range(let start, let end):
            if start >= end { fail(path / "range_match", expected: "a start below the end", found: "\(start) to \(end)") }
            condition = .range(start, end)
        }
        guard let source = source(matcher.name, condition, path / "name") else { return nil }
        return .init(source: source, condition: condition, isInverted: matcher.isInverted)
    }

    /// Where the value of a header is found. `host` is the authority, as in Envoy.
    private mutating func source(
        _ name: String, _ condition: RouteConditions.Header.Condition, _ path: FieldPath
    ) -> RouteConditions.Header.Source? {
        switch name.lowercased() {
        case ":method": return .method
        case ":scheme": return .scheme(http: holds(condition, for: "http"), https: holds(condition, for: "https"))
        case ":authority", "host": return .authority
        case ":path": return .path
        case let name:
            // RFC 9110 section 5.6.2: a token.
            let isToken = name.utf8.allSatisfy { byte in
                UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
                    || "!#$%&'*+-.^_`|~".utf8.contains(byte)
            }
            guard !name.isEmpty, isToken else {
                fail(path, expected: "a header name, :method, :scheme, :authority or :path", found: name.isEmpty ? "an empty string" : name)
                return nil
            }
            let known = KnownField(Array(name.utf8).span)
            return known == .other ? .named(store(name.utf8)) : .known(known)
        }
    }

    private func holds(_ condition: RouteConditions.Header.Condition, for value: String) -> Bool {
        if case .regex(let number) = condition, number < 0 { return false }
        let bytes = Array(value.utf8)
        return conditions.condition(condition, bytes.span, 0..<bytes.count)
    }

    // MARK: Actions

    private mutating func ordinal(_ cluster: String, _ path: FieldPath) -> Int {
        if cluster.isEmpty { fail(path, expected: "a cluster's name", found: "an empty string") }
        if let ordinal = clusterOrdinals[cluster] { return ordinal }
        clusterOrdinals[cluster] = clusterNames.count
        clusterNames.append(cluster)
        return clusterNames.count - 1
    }

    private mutating func compile(_ target: ClusterTarget, _ path: FieldPath) -> WeightedTargets {
        var targets = WeightedTargets()
        switch target {
        case .cluster(let name):
            targets.append(ordinal: ordinal(name, path / "cluster"), weight: 1)
        case .weighted(let clusters):
            let path = path / "weighted_clusters" / "clusters"
            for (index, cluster) in clusters.enumerated() {
                let ordinal = ordinal(cluster.name, path[index] / "name")
                if cluster.weight > 0 { targets.append(ordinal: ordinal, weight: UInt64(cluster.weight)) }
            }
            // The upper bound is that of the field in xDS.
            if !(1...UInt64(UInt32.max) ~= targets.total) {
                fail(path, expected: "weights whose sum is from 1 through \(UInt32.max)", found: "\(targets.total)")
            }
        }
        return targets
    }

    private mutating func compile(
        _ rewrite: ForwardAction.PathRewrite?, matched: Int?, _ path: FieldPath
    ) -> CompiledRoute.PathRewrite {
        switch rewrite {
        case nil:
            return .none
        case .prefix(let text):
            // What follows the prefix joins its last segment, so this is the start of a path, too.
            let bytes = PathNormalizer.pattern(text, isPrefix: matched != nil)
            if bytes == nil { fail(path / "prefix_rewrite", expected: "the start of a path, without query", found: text) }
            return .replace(matched: matched, with: bytes ?? [])
        case .full(let text):
            let bytes = PathNormalizer.pattern(text, isPrefix: false)
            if bytes == nil { fail(path / "regex_rewrite" / "substitution", expected: "a path, without query", found: text) }
            return .replace(matched: nil, with: bytes ?? [])
        }
    }

    private mutating func compile(_ rewrite: ForwardAction.HostRewrite?, _ path: FieldPath) -> [UInt8]? {
        guard case .literal(let host) = rewrite else { return nil }
        let bytes = Array(host.utf8)
        if bytes.isEmpty || !bytes.allSatisfy({ $0 > 0x20 && $0 < 0x7f && !"/?#@\\".utf8.contains($0) }) {
            fail(path / "host_rewrite_literal", expected: "host or host:port", found: host.isEmpty ? "an empty string" : host)
        }
        return bytes
    }

    private mutating func checkTimes(_ forward: ForwardAction, _ path: FieldPath) {
        let times = [
            (path / "timeout", forward.timeout), (path / "idle_timeout", forward.idleTimeout),
            (path / "retry_policy" / "per_try_timeout", forward.retryPolicy?.perTryTimeout),
        ]
        for (path, time) in times {
            if let time, time < .zero { fail(path, expected: "no negative duration", found: "\(time)") }
        }
        if let policy = forward.retryPolicy, policy.maxRetries < 0 {
            fail(path / "retry_policy" / "num_retries", expected: "0 or more", found: "\(policy.maxRetries)")
        }
    }
}
