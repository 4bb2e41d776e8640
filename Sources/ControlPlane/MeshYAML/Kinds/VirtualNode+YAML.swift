import Base
import MeshModel

extension VirtualNode {
    init?(_ meta: ResourceMeta, _ spec: ObjectReader) {
        spec.ignored("meshRef", by: "the system")
        self.init(
            meta: meta,
            awsName: spec.optional("awsName", .name),
            podSelector: spec.optional("podSelector", .object(LabelSelector.init)),
            listeners: spec.list("listeners", of: .object(Listener.init)),
            serviceDiscovery: spec.optional("serviceDiscovery", .object(ServiceDiscovery.read)),
            backends: spec.list("backends", of: .object { $0.required("virtualService", .object(Backend.init)) }),
            backendGroups: spec.list("backendGroups", of: .object(ObjectReference.init)),
            backendDefaults: spec.optional("backendDefaults", .object(ClientPolicy.backendDefaults)),
            accessLog: spec.optional("logging", .object(AccessLogFile.logging)))
        if listeners.count > 1 {
            for (index, listener) in listeners.enumerated() where listener.portMapping == nil {
                spec.problem(listener: index, .error, "required when a VirtualNode has more than one listener")
            }
        } else if listeners.count == 1, listeners[0].portMapping == nil {
            spec.problem(listener: 0, .warning, "missing: policies apply to all ports of VirtualNode \"\(meta.name)\"")
        }
    }
}

extension ObjectReader {
    fileprivate func problem(listener index: Int, _ severity: Diagnostic.Severity, _ text: String) {
        guard case .sequence(let items)? = field.node["listeners"]?.content, index < items.count else { return }
        // A portMapping that is there and wrong has its own message.
        if let given = items[index]["portMapping"], !given.isNull { return }
        field.log.add(severity, at: items[index].mark, (field.path / "listeners")[index] / "portMapping", .message(text))
    }
}

extension VirtualNode.Listener {
    init?(_ object: ObjectReader) {
        let protocols: [PortProtocol] = [.grpc, .http, .http2, .tcp]
        self.init(
            portMapping: object.optional("portMapping", .portMapping(protocols)),
            healthCheck: object.optional("healthCheck", .object { HealthCheckPolicy($0, protocols: protocols, ofGateway: false) }),
            outlierDetection: object.optional("outlierDetection", .object(OutlierDetectionPolicy.init)),
            connectionPool: object.optional(
                "connectionPool",
                .object {
                    ConnectionPool.read($0, protocols: protocols, several: "Only one type of Virtual Node Connection Pool is allowed")
                }),
            timeout: object.optional("timeout", .object(ListenerTimeout.read)),
            tls: object.optional("tls", .object(ListenerTLS.init)))
        object.check(portMapping, healthCheck: healthCheck, connectionPool: connectionPool, timeout: timeout)
    }
}

extension OutlierDetectionPolicy {
    init?(_ object: ObjectReader) {
        let errors = object.required("maxServerErrors", .integer(atLeast: 1))
        let interval = object.required("interval", .duration)
        let base = object.required("baseEjectionDuration", .duration)
        let percent = object.required("maxEjectionPercent", .integer(0...100))
        guard let errors, let interval, let base, let percent else { return nil }
        self.init(maxServerErrors: errors, interval: interval, baseEjectionDuration: base, maxEjectionPercent: percent)
    }
}

extension ListenerTimeout {
    static func read(_ object: ObjectReader) -> ListenerTimeout? {
        object.atMostOne([
            .init("tcp", .object(TimeoutPolicy.tcp)) { ListenerTimeout(protocol: .tcp, policy: $0) },
            .init("http", .object(TimeoutPolicy.http)) { ListenerTimeout(protocol: .http, policy: $0) },
            .init("http2", .object(TimeoutPolicy.http)) { ListenerTimeout(protocol: .http2, policy: $0) },
            .init("grpc", .object(TimeoutPolicy.http)) { ListenerTimeout(protocol: .grpc, policy: $0) },
        ])
    }
}

extension VirtualNode.ServiceDiscovery {
    static func read(_ object: ObjectReader) -> VirtualNode.ServiceDiscovery? {
        object.exactlyOne([
            .init("dns", .object(VirtualNode.DNSDiscovery.init)) { .dns($0) },
            .init("awsCloudMap", .object(VirtualNode.CloudMapDiscovery.init)) { .awsCloudMap($0) },
        ])
    }
}

extension VirtualNode.DNSDiscovery {
    init?(_ object: ObjectReader) {
        let hostname = object.required("hostname", .name)
        let responseType = object.optional("responseType", .oneOf(ResponseType.allCases))
        let ipPreference = object.optional("ipPreference", .oneOf(IPPreference.allCases))
        guard let hostname else { return nil }
        self.init(hostname: hostname, responseType: responseType, ipPreference: ipPreference)
    }
}

extension VirtualNode.CloudMapDiscovery {
    init?(_ object: ObjectReader) {
        let namespaceName = object.required("namespaceName", .string(1...1024))
        let serviceName = object.required("serviceName", .string(1...1024))
        let attributes = object.list("attributes", of: .object(VirtualNode.Attribute.init))
        let ipPreference = object.optional("ipPreference", .oneOf(IPPreference.allCases))
        guard let namespaceName, let serviceName else { return nil }
        self.init(namespaceName: namespaceName, serviceName: serviceName, attributes: attributes, ipPreference: ipPreference)
    }
}

extension VirtualNode.Attribute {
    init?(_ object: ObjectReader) {
        let key = object.required("key", .string(1...255))
        let value = object.required("value", .string(1...1024))
        guard let key, let value else { return nil }
        self.init(key: key, value: value)
    }
}

extension VirtualNode.Backend {
    init?(_ object: ObjectReader) {
        let virtualService = object.reference("virtualService")
        let clientPolicy = object.optional("clientPolicy", .object(ClientPolicy.init))
        guard let virtualService else { return nil }
        self.init(virtualService: virtualService, clientPolicy: clientPolicy)
    }
}
