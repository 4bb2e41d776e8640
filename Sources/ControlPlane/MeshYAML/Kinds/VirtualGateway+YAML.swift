import Base
import MeshModel

extension VirtualGateway {
    init?(_ meta: ResourceMeta, _ spec: ObjectReader) {
        spec.ignored("meshRef", by: "the system")
        self.init(
            meta: meta,
            awsName: spec.optional("awsName", .name),
            namespaceSelector: spec.optional("namespaceSelector", .object(LabelSelector.init)),
            gatewayRouteSelector: spec.optional("gatewayRouteSelector", .object(LabelSelector.init)),
            podSelector: spec.optional("podSelector", .object(LabelSelector.init)),
            listeners: spec.list("listeners", of: .object(Listener.init)),
            backendDefaults: spec.optional("backendDefaults", .object(ClientPolicy.backendDefaults)),
            accessLog: spec.optional("logging", .object(AccessLogFile.logging)))
    }
}

extension VirtualGateway.Listener {
    init?(_ object: ObjectReader) {
        let protocols: [PortProtocol] = [.grpc, .http, .http2]
        let mapping = object.required("portMapping", .portMapping(protocols))
        let healthCheck = object.optional("healthCheck", .object { HealthCheckPolicy($0, protocols: protocols, ofGateway: true) })
        let pool = object.optional(
            "connectionPool",
            .object {
                ConnectionPool.read($0, protocols: protocols, several: "Only one type of Virtual Gateway Connection Pool is allowed")
            })
        let tls = object.optional("tls", .object(ListenerTLS.init))
        object.check(mapping, healthCheck: healthCheck, connectionPool: pool, timeout: nil)
        guard let mapping else { return nil }
        self.init(portMapping: mapping, healthCheck: healthCheck, connectionPool: pool, tls: tls)
    }
}

extension GatewayRoute {
    init?(_ meta: ResourceMeta, _ spec: ObjectReader) {
        spec.ignored("meshRef", "virtualGatewayRef", by: "the system")
        let awsName = spec.optional("awsName", .name)
        let priority = spec.optional("priority", .integer(0...1000))
        let rule: Rule? = spec.exactlyOne(
            [
                .init("httpRoute", .object(GatewayHTTPRoute.init)) { .http($0) },
                .init("http2Route", .object(GatewayHTTPRoute.init)) { .http2($0) },
                .init("grpcRoute", .object(GatewayGRPCRoute.init)) { .grpc($0) },
            ], none: "Missing GatewayRoute Type in GatewayRoute Spec",
            several: "Found multiple types in GatewayRoute Spec. Only 1 (GRPC/HTTP/HTTP2) allowed")
        guard let rule else { return nil }
        self.init(meta: meta, awsName: awsName, priority: priority, rule: rule)
    }
}

extension GatewayHTTPRoute {
    init?(_ object: ObjectReader) {
        let match = object.required("match", .object(Match.init))
        let action = object.required("action", .object(Self.action))
        guard let match, let action else { return nil }
        self.init(match: match, target: action.target, rewrite: action.rewrite)
        // Without a path the prefix is "/".
        switch (match.path, rewrite?.path) {
        case (.exact, .prefix), (.exact, .defaultPrefix), (.regex, .prefix), (.regex, .defaultPrefix):
            object.problem(
                at: ["action", "rewrite", "prefix"], .message("without effect: only a matched prefix can be rewritten"), severity: .warning)
        default: break
        }
    }

    private static func action(_ object: ObjectReader) -> (target: GatewayTarget, rewrite: Rewrite?)? {
        let target = object.required("target", .object(GatewayTarget.init))
        let rewrite = object.optional("rewrite", .object(Rewrite.init))
        return target.map { ($0, rewrite) }
    }
}

extension GatewayHTTPRoute.Match {
    init?(_ object: ObjectReader) {
        self.init(
            path: PathMatch.optional(object),
            hostname: object.optional("hostname", .object(HostnameMatch.read)),
            method: object.optional("method", .oneOf(HTTPMethod.allCases)),
            headers: object.list("headers", of: .object(HeaderMatch.init), count: 1...10),
            queryParameters: object.list("queryParameters", of: .object { QueryParameterMatch($0, ofGateway: true) }, count: 1...10),
            port: object.optional("port", .port))
        if !["prefix", "path", "hostname"].contains(where: object.has) {
            object.problem(.mismatch(expected: "at least one of prefix, path, hostname", found: "none"))
        }
        if case .prefix(let prefix)? = path, prefix.hasPrefix("/aws-appmesh") || prefix.hasPrefix("/aws-app-mesh") {
            object.problem(
                at: ["prefix"], .message("prefixes that start with /aws-appmesh or /aws-app-mesh are reserved, found \(prefix.quoted)"))
        }
    }
}

extension GatewayHTTPRoute.Rewrite {
    private enum Switch: String, CaseIterable {
        case enabled = "ENABLED"
        case disabled = "DISABLED"
    }

    init?(_ object: ObjectReader) {
        let path: GatewayHTTPRoute.PathRewrite? = object.atMostOne([
            .init("prefix", .object(Self.prefix)),
            .init("path", .object { $0.required("exact", .string(1...255)).map { .exact($0) } }),
        ])
        let hostname = object.optional("hostname", .object(Self.hostname))
        if !["prefix", "path", "hostname"].contains(where: object.has) {
            object.problem(.mismatch(expected: "at least one of prefix, path, hostname", found: "none"))
        }
        self.init(path: path, defaultTargetHostname: hostname)
    }

    static func hostname(_ object: ObjectReader) -> Bool? {
        object.required("defaultTargetHostname", .oneOf(Switch.allCases)).map { $0 == .enabled }
    }

    private static func prefix(_ object: ObjectReader) -> GatewayHTTPRoute.PathRewrite? {
        object.atMostOne([
            .init("defaultPrefix", .oneOf(Switch.allCases)) { .defaultPrefix($0 == .enabled) },
            .init("value", .prefixValue) { .prefix($0) },
        ])
    }
}

extension FieldType where Value == String {
    fileprivate static var prefixValue: FieldType {
        .text("a path of 1 through 255 characters that starts and ends with /") { text in
            text.hasPrefix("/") && text.hasSuffix("/") && text.unicodeScalars.count <= 255 ? text : nil
        }
    }
}

extension GatewayGRPCRoute {
    init?(_ object: ObjectReader) {
        let match = object.required("match", .object(Match.init))
        let action = object.required("action", .object(Self.action))
        guard let match, let action else { return nil }
        self.init(match: match, target: action.target, defaultTargetHostname: action.hostname)
    }

    private static func action(_ object: ObjectReader) -> (target: GatewayTarget, hostname: Bool?)? {
        let target = object.required("target", .object(GatewayTarget.init))
        let hostname = object.optional("rewrite", .object { $0.required("hostname", .object(GatewayHTTPRoute.Rewrite.hostname)) })
        return target.map { ($0, hostname) }
    }
}

extension GatewayGRPCRoute.Match {
    init?(_ object: ObjectReader) {
        self.init(
            serviceName: object.optional("serviceName", .name),
            hostname: object.optional("hostname", .object(HostnameMatch.read)),
            metadata: object.list("metadata", of: .object(HeaderMatch.init), count: 1...10),
            port: object.optional("port", .port))
        if !["serviceName", "hostname"].contains(where: object.has) {
            object.problem(.mismatch(expected: "at least one of serviceName, hostname", found: "none"))
        }
    }
}

extension HostnameMatch {
    static func read(_ object: ObjectReader) -> HostnameMatch? {
        object.exactlyOne([
            .init("exact", .string(1...253)) { .exact($0) },
            .init("suffix", .string(1...253)) { .suffix($0) },
        ])
    }
}

extension GatewayTarget {
    init?(_ object: ObjectReader) {
        let virtualService = object.required("virtualService", .object { $0.reference("virtualService") })
        let port = object.optional("port", .port)
        guard let virtualService else { return nil }
        self.init(virtualService: virtualService, port: port)
    }
}
