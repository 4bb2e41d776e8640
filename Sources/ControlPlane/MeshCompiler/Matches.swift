import MeshModel
import ProxyConfig

extension RouteMatch {
    init(_ match: HTTPRoute.Match) {
        var headers = match.headers.map(HeaderMatcher.init)
        if let method = match.method { headers.append(.method(method)) }
        if let scheme = match.scheme { headers.append(HeaderMatcher(name: ":scheme", condition: .exact(scheme.rawValue))) }
        self.init(path: Path(match.path), headers: headers, queryParameters: match.queryParameters.map(QueryParameterMatcher.init))
    }

    init(_ match: GRPCRoute.Match) {
        self.init(
            path: Path(service: match.serviceName, method: match.methodName), headers: match.metadata.map(HeaderMatcher.init),
            requiresGRPC: true)
    }

    /// Without a path, every one matches.
    init(_ match: GatewayHTTPRoute.Match) {
        var headers = match.headers.map(HeaderMatcher.init)
        if let method = match.method { headers.append(.method(method)) }
        self.init(
            path: match.path.map(Path.init) ?? .prefix("/"), headers: headers,
            queryParameters: match.queryParameters.map(QueryParameterMatcher.init))
    }

    init(_ match: GatewayGRPCRoute.Match) {
        self.init(
            path: Path(service: match.serviceName, method: nil), headers: match.metadata.map(HeaderMatcher.init), requiresGRPC: true)
    }
}

extension RouteMatch {
    /// How many things beside the path must hold.
    var conditionCount: Int { headers.count + queryParameters.count }
}

extension RouteMatch.Path {
    init(_ match: PathMatch) {
        self =
            switch match {
            case .prefix(let prefix): .prefix(prefix)
            case .exact(let path): .exact(path)
            case .regex(let pattern): .regex(pattern)
            }
    }

    /// gRPC calls `/package.Service/Method`.
    init(service: String?, method: String?) {
        self =
            switch (service, method) {
            case (let service?, let method?): .exact("/\(service)/\(method)")
            case (let service?, nil): .prefix("/\(service)/")
            case (nil, _): .prefix("/")
            }
    }
}

extension HeaderMatcher {
    init(_ match: HeaderMatch) {
        let condition: Condition =
            switch match.value {
            case nil: .present
            case .exact(let value): .exact(value)
            case .prefix(let value): .prefix(value)
            case .suffix(let value): .suffix(value)
            case .regex(let pattern): .regex(pattern)
            case .range(let start, let end): .range(start: Int64(start), end: Int64(end))
            }
        self.init(name: match.name.lowercased(), condition: condition, isInverted: match.invert ?? false)
    }

    static func method(_ method: HTTPMethod) -> HeaderMatcher {
        HeaderMatcher(name: ":method", condition: .exact(method.rawValue))
    }
}

extension QueryParameterMatcher {
    init(_ match: QueryParameterMatch) {
        self.init(name: match.name, exact: match.exact)
    }
}
