import Base
import MeshModel

extension VirtualRouter {
    init?(_ meta: ResourceMeta, _ spec: ObjectReader) {
        spec.ignored("meshRef", by: "the system")
        let awsName = spec.optional("awsName", .name)
        let mapping = FieldType.object { $0.required("portMapping", .portMapping()) }
        let listeners = spec.required("listeners", .list(of: mapping, count: 1...Int.max))
        let routes = spec.list("routes", of: .object(RouterRoute.init))
        guard let listeners else { return nil }
        self.init(meta: meta, awsName: awsName, listeners: listeners, routes: routes)
    }
}

extension RouterRoute {
    init?(_ object: ObjectReader) {
        let name = object.required("name", .name)
        let priority = object.optional("priority", .integer(0...1000))
        let rule: Rule? = object.exactlyOne([
            .init("httpRoute", .object(HTTPRoute.init)) { .http($0) },
            .init("http2Route", .object(HTTPRoute.init)) { .http2($0) },
            .init("grpcRoute", .object(GRPCRoute.init)) { .grpc($0) },
            .init("tcpRoute", .object(TCPRoute.init)) { .tcp($0) },
        ])
        guard let name, let rule else { return nil }
        self.init(name: name, priority: priority, rule: rule)
    }
}

extension HTTPRoute {
    init?(_ object: ObjectReader) {
        let match = object.required("match", .object(Match.init))
        let targets = object.required("action", .object(WeightedTarget.list))
        let retryPolicy = object.optional("retryPolicy", .object { RouteRetryPolicy($0, ofGRPC: false) })
        let timeout = object.optional("timeout", .object(TimeoutPolicy.http))
        guard let match, let targets else { return nil }
        self.init(match: match, targets: targets, retryPolicy: retryPolicy, timeout: timeout)
    }
}

extension HTTPRoute.Match {
    init?(_ object: ObjectReader) {
        let path = PathMatch.required(object)
        let method = object.optional("method", .oneOf(HTTPMethod.allCases))
        let scheme = object.optional("scheme", .oneOf(URLScheme.allCases))
        let port = object.optional("port", .port)
        let headers = object.list("headers", of: .object(HeaderMatch.init), count: 1...10)
        let parameters = object.list("queryParameters", of: .object { QueryParameterMatch($0) }, count: 1...10)
        guard let path else { return nil }
        self.init(path: path, method: method, scheme: scheme, port: port, headers: headers, queryParameters: parameters)
    }
}

extension GRPCRoute {
    init?(_ object: ObjectReader) {
        let match = object.required("match", .object(Match.init))
        let targets = object.required("action", .object(WeightedTarget.list))
        let retryPolicy = object.optional("retryPolicy", .object { RouteRetryPolicy($0, ofGRPC: true) })
        let timeout = object.optional("timeout", .object(TimeoutPolicy.http))
        guard let match, let targets else { return nil }
        self.init(match: match, targets: targets, retryPolicy: retryPolicy, timeout: timeout)
    }
}

extension GRPCRoute.Match {
    init?(_ object: ObjectReader) {
        self.init(
            serviceName: object.optional("serviceName", .name),
            methodName: object.optional("methodName", .string(1...50)),
            metadata: object.list("metadata", of: .object(HeaderMatch.init), count: 1...10),
            port: object.optional("port", .port))
        if methodName != nil, !object.has("serviceName") { object.missing("serviceName", "the service of the methodName") }
    }
}

extension TCPRoute {
    init?(_ object: ObjectReader) {
        let port = object.optional("match", .object { $0.optional("port", .port) })
        let targets = object.required("action", .object(WeightedTarget.list))
        let timeout = object.optional("timeout", .object(TimeoutPolicy.tcp))
        guard let targets else { return nil }
        self.init(port: port, targets: targets, idleTimeout: timeout?.idle)
    }
}

extension WeightedTarget {
    /// `action: {weightedTargets: [...]}`.
    static func list(_ action: ObjectReader) -> [WeightedTarget]? {
        guard let targets = action.required("weightedTargets", .list(of: .object(WeightedTarget.init), count: 1...10)) else { return nil }
        let sum = targets.reduce(0) { $0 + $1.weight }
        if sum > 100 { action.problem(at: ["weightedTargets"], .mismatch(expected: "weights whose sum is at most 100", found: "\(sum)")) }
        return targets
    }

    init?(_ object: ObjectReader) {
        let virtualNode = object.reference("virtualNode")
        let weight = object.required("weight", .integer(0...100))
        let port = object.optional("port", .port)
        guard let virtualNode, let weight else { return nil }
        self.init(virtualNode: virtualNode, weight: weight, port: port)
    }
}

extension PathMatch {
    /// `prefix` or `path`, and nothing else.
    static func required(_ match: ObjectReader) -> PathMatch? {
        match.exactlyOne(
            choices, none: "Either Prefix or Path must be specified", several: "Both Prefix and Path cannot be specified, only 1 allowed")
    }

    static func optional(_ match: ObjectReader) -> PathMatch? {
        match.atMostOne(choices, several: "Both Prefix and Path cannot be specified, only 1 allowed")
    }

    private static var choices: [ObjectReader.Choice<PathMatch>] {
        [
            .init("prefix", .text("a path that starts with /") { $0.hasPrefix("/") ? $0 : nil }) { .prefix($0) },
            .init("path", .object(exactOrRegex)),
        ]
    }

    private static func exactOrRegex(_ object: ObjectReader) -> PathMatch? {
        object.exactlyOne(
            [
                .init("exact", .string(1...255)) { .exact($0) },
                .init("regex", .regex(1...255)) { .regex($0) },
            ], none: "Either exact or regex for path must be specified")
    }
}

extension HeaderMatch {
    init?(_ object: ObjectReader) {
        let name = object.required("name", .string(1...50))
        let value = object.optional("match", .object(Value.read))
        let invert = object.optional("invert", .bool)
        guard let name else { return nil }
        self.init(name: name, value: value, invert: invert)
    }
}

extension HeaderMatch.Value {
    static func read(_ object: ObjectReader) -> HeaderMatch.Value? {
        object.atMostOne([
            .init("exact", .string(1...255)) { .exact($0) },
            .init("prefix", .string(1...255)) { .prefix($0) },
            .init("suffix", .string(1...255)) { .suffix($0) },
            .init("regex", .regex(1...255)) { .regex($0) },
            .init("range", .object(range)),
        ])
    }

    private static func range(_ object: ObjectReader) -> HeaderMatch.Value? {
        let start = object.required("start", .anyInteger)
        let end = object.required("end", .anyInteger)
        guard let start, let end else { return nil }
        guard start < end else {
            object.problem(
                at: ["end"], .mismatch(expected: "an integer above start (\(start)), which it does not include", found: "\(end)"))
            return nil
        }
        return .range(start: start, end: end)
    }
}

extension QueryParameterMatch {
    /// A GatewayRoute's `match` must have its `exact`.
    init?(_ object: ObjectReader, ofGateway: Bool = false) {
        let name = object.required("name", .name)
        let exact = object.optional(
            "match", .object { ofGateway ? $0.required("exact", .string()) : $0.optional("exact", .string()) })
        guard let name else { return nil }
        self.init(name: name, exact: exact)
    }
}

extension RouteRetryPolicy {
    init?(_ object: ObjectReader, ofGRPC: Bool) {
        let retries = object.required("maxRetries", .integer(atLeast: 0))
        let timeout = object.required("perRetryTimeout", .duration)
        let http = object.list("httpRetryEvents", of: .oneOf(HTTPEvent.allCases), count: 1...25)
        let tcp = object.list("tcpRetryEvents", of: .oneOf(TCPEvent.allCases), count: 1...1)
        let grpc = ofGRPC ? object.list("grpcRetryEvents", of: .oneOf(GRPCEvent.allCases), count: 1...5) : []
        let keys = ["httpRetryEvents", "tcpRetryEvents"] + (ofGRPC ? ["grpcRetryEvents"] : [])
        if !keys.contains(where: object.has) {
            object.problem(.mismatch(expected: "at least one of \(keys.joined(separator: ", "))", found: "none"))
        }
        guard let retries, let timeout else { return nil }
        self.init(maxRetries: retries, perRetryTimeout: timeout, httpRetryEvents: http, tcpRetryEvents: tcp, grpcRetryEvents: grpc)
    }
}
