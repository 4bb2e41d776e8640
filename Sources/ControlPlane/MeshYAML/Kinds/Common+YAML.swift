import Base
import MeshModel

// What several kinds share. Limits: CRD v1beta2 and the App Mesh API, the tighter of the two.

extension ObjectReference {
    init?(_ object: ObjectReader) {
        let name = object.required("name", .name)
        let namespace = object.optional("namespace", .name)
        guard let name else { return nil }
        self.init(name: name, namespace: namespace)
    }
}

extension ObjectReader {
    /// `<stem>Ref` or `<stem>ARN`.
    func reference(_ stem: String) -> ResourceReference? {
        exactlyOne([
            Choice("\(stem)Ref", .object(ObjectReference.init)) { .object($0) },
            Choice("\(stem)ARN", .name) { .arn($0) },
        ])
    }
}

extension LabelSelector {
    init?(_ object: ObjectReader) {
        self.init(
            matchLabels: object.optional("matchLabels", .stringMap) ?? [:],
            matchExpressions: object.list("matchExpressions", of: .object(Requirement.init)))
    }
}

extension LabelSelector.Requirement {
    init?(_ object: ObjectReader) {
        let key = object.required("key", .name)
        let operation = object.required("operator", .oneOf(Operator.allCases))
        let values = object.list("values", of: .string())
        guard let key, let operation else { return nil }
        switch operation {
        case .in, .notIn:
            if values.isEmpty { object.missing("values", "a list of at least 1") }
        case .exists, .doesNotExist:
            if !values.isEmpty {
                object.problem(at: ["values"], .mismatch(expected: "nothing with operator \(operation.rawValue)", found: "a list"))
            }
        }
        self.init(key: key, operator: operation, values: values)
    }
}

extension PortMapping {
    init?(_ object: ObjectReader, protocols: [PortProtocol]) {
        let port = object.required("port", .port)
        let `protocol` = object.required("protocol", .oneOf(protocols))
        guard let port, let `protocol` else { return nil }
        self.init(port: port, protocol: `protocol`)
    }
}

extension FieldType where Value == PortMapping {
    static func portMapping(_ protocols: [PortProtocol] = [.grpc, .http, .http2, .tcp]) -> FieldType {
        .object { PortMapping($0, protocols: protocols) }
    }
}

extension HealthCheckPolicy {
    /// A gateway's may leave `healthyThreshold` out.
    init?(_ object: ObjectReader, protocols: [PortProtocol], ofGateway: Bool) {
        let healthy =
            ofGateway ? object.optional("healthyThreshold", .integer(2...10)) : object.required("healthyThreshold", .integer(2...10))
        let unhealthy = object.required("unhealthyThreshold", .integer(2...10))
        let interval = object.required("intervalMillis", .integer(5_000...300_000))
        let timeout = object.required("timeoutMillis", .integer(2_000...60_000))
        let `protocol` = object.required("protocol", .oneOf(protocols))
        let path = object.optional("path", .string())
        let port = object.optional("port", .port)
        guard let unhealthy, let interval, let timeout, let `protocol` else { return nil }
        self.init(
            healthyThreshold: healthy, unhealthyThreshold: unhealthy, interval: .milliseconds(interval), timeout: .milliseconds(timeout),
            protocol: `protocol`, path: path, port: port)
    }
}

extension ObjectReader {
    /// What a listener's policies must have in common with its portMapping (API).
    func check(_ mapping: PortMapping?, healthCheck: HealthCheckPolicy?, connectionPool: ConnectionPool?, timeout: ListenerTimeout?) {
        guard let mapping else { return }
        if let port = healthCheck?.port, port != mapping.port {
            problem(at: ["healthCheck", "port"], .mismatch(expected: "the listener's port \(mapping.port)", found: "\(port)"))
        }
        if let key = connectionPool?.protocol, key != mapping.protocol {
            problem(
                at: ["connectionPool", key.rawValue],
                .mismatch(expected: "the listener's protocol \(mapping.protocol.rawValue)", found: key.rawValue))
        }
        if let key = timeout?.protocol, key != mapping.protocol {
            problem(
                at: ["timeout", key.rawValue],
                .mismatch(expected: "the listener's protocol \(mapping.protocol.rawValue)", found: key.rawValue))
        }
    }
}

extension ConnectionPool {
    static func read(_ object: ObjectReader, protocols: [PortProtocol], several: String) -> ConnectionPool? {
        let choices: [ObjectReader.Choice<ConnectionPool>] = protocols.map { `protocol` in
            switch `protocol` {
            case .tcp: .init("tcp", .object { $0.required("maxConnections", .integer(atLeast: 1)).map { .tcp(maxConnections: $0) } })
            case .http: .init("http", .object(http))
            case .http2: .init("http2", .object { $0.required("maxRequests", .integer(atLeast: 1)).map { .http2(maxRequests: $0) } })
            case .grpc: .init("grpc", .object { $0.required("maxRequests", .integer(atLeast: 1)).map { .grpc(maxRequests: $0) } })
            }
        }
        return object.atMostOne(choices, several: several)
    }

    private static func http(_ object: ObjectReader) -> ConnectionPool? {
        let connections = object.required("maxConnections", .integer(atLeast: 1))
        let pending = object.optional("maxPendingRequests", .integer(atLeast: 1))
        return connections.map { .http(maxConnections: $0, maxPendingRequests: pending) }
    }
}

extension TimeoutPolicy {
    static func http(_ object: ObjectReader) -> TimeoutPolicy? {
        TimeoutPolicy(perRequest: object.optional("perRequest", .duration), idle: object.optional("idle", .duration))
    }

    static func tcp(_ object: ObjectReader) -> TimeoutPolicy? {
        TimeoutPolicy(idle: object.optional("idle", .duration))
    }
}

extension AccessLogFile {
    /// `logging: {accessLog: {file: ...}}`.
    static func logging(_ object: ObjectReader) -> AccessLogFile? {
        object.optional("accessLog", .object { $0.optional("file", .object(AccessLogFile.init)) })
    }

    init?(_ object: ObjectReader) {
        let path = object.required("path", .string(1...255))
        let format = object.optional("format", .object(Format.read))
        guard let path else { return nil }
        self.init(path: path, format: format)
    }
}

extension AccessLogFile.Format {
    static func read(_ object: ObjectReader) -> AccessLogFile.Format? {
        object.exactlyOne([
            .init("text", .string(1...1000)) { .text($0) },
            .init("json", .list(of: .object(AccessLogFile.Field.init))) { .json($0) },
        ])
    }
}

extension AccessLogFile.Field {
    init?(_ object: ObjectReader) {
        let key = object.required("key", .string(1...100))
        let value = object.required("value", .string(1...100))
        guard let key, let value else { return nil }
        self.init(key: key, value: value)
    }
}
