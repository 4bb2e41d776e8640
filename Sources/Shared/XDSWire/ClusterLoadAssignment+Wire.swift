import Base
import ProxyConfig

extension ClusterLoadAssignment: WireMessage {
    /// envoy.config.endpoint.v3.ClusterLoadAssignment.
    enum Fields: Int, WireField {
        case cluster_name = 1
        case endpoints = 2
        case policy = 4
        case named_endpoints = 5
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.string(.cluster_name, clusterName)
        message.messages(.endpoints, localities)
    }

    static func read(_ message: MessageReader<Fields>) -> ClusterLoadAssignment? {
        message.refuse(.named_endpoints)
        message.message(.policy, AssignmentPolicyField.self)?.refuse(.drop_overloads)
        let localities = message.messages(.endpoints, LocalityEndpoints.self)
        let priorities = Set(localities.map(\.priority))
        if let highest = priorities.max(), Int(highest) != priorities.count - 1 {
            message.fail(.endpoints, expected: "priorities from 0 without a gap", found: "\(priorities.sorted())")
        }
        return ClusterLoadAssignment(clusterName: message.requiredString(.cluster_name), localities: localities)
    }

    /// Host names are for DNS clusters only.
    func requireAddresses(_ path: FieldPath, _ context: DecodingContext) {
        for (index, locality) in localities.enumerated() {
            for endpoint in locality.endpoints {
                guard case .name(let name) = endpoint.host else { continue }
                context.add(
                    (path / "\(Fields.endpoints)")[index] / "lb_endpoints", expected: "IP addresses (names need type STRICT_DNS)",
                    found: "\"\(name)\"")
            }
        }
    }
}

/// envoy.config.endpoint.v3.ClusterLoadAssignment.Policy.
enum AssignmentPolicyField: Int, WireField {
    case drop_overloads = 2
}

extension LocalityEndpoints: WireMessage {
    /// envoy.config.endpoint.v3.LocalityLbEndpoints.
    enum Fields: Int, WireField {
        case locality = 1
        case lb_endpoints = 2
        case load_balancing_weight = 3
        case priority = 5
        case load_balancer_endpoints = 7
        case leds_cluster_locality_config = 8
    }

    /// The locality is written even if it is empty, and the weight even if it is 1: without them gRPC refuses or drops it.
    func write(to message: inout MessageWriter<Fields>) {
        message.message(.locality, locality)
        message.messages(.lb_endpoints, endpoints)
        message.wrapped(.load_balancing_weight, weight)
        message.number(.priority, priority)
    }

    static func read(_ message: MessageReader<Fields>) -> LocalityEndpoints? {
        message.refuse(.load_balancer_endpoints, .leds_cluster_locality_config)
        let endpoints = message.messages(.lb_endpoints, Endpoint.Fields.self).filter(\.isAvailable).compactMap(Endpoint.read)
        let sum = endpoints.reduce(UInt64(0)) { $0 + UInt64($1.weight) }
        if sum > UInt32.max { message.fail(.lb_endpoints, expected: "weights with a sum of at most \(UInt32.max)", found: sum) }
        return LocalityEndpoints(
            locality: message.message(.locality, Locality.self) ?? Locality(), priority: message.uint32(.priority, in: 0...128) ?? 0,
            weight: message.wrapped(.load_balancing_weight, in: 1...UInt32.max) ?? 1, endpoints: endpoints)
    }
}

extension Endpoint: WireMessage {
    /// envoy.config.endpoint.v3.LbEndpoint.
    enum Fields: Int, WireField {
        case endpoint = 1
        case health_status = 2
        case metadata = 3
        case load_balancing_weight = 4
        case endpoint_name = 5
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.message(.endpoint, EndpointField.self) {
            $0.message(.address, AddressField.self) {
                switch host {
                case .ip(let ip): writeAddress(host: ip.description, port: port, to: &$0)
                case .name(let name): writeAddress(host: name, port: port, to: &$0)
                }
            }
            if case .name(let name) = host { $0.string(.hostname, name) }
        }
        if isPlaintext {
            message.message(.metadata, MetadataField.self) {
                $0.message(.filter_metadata, MapEntryField.self) {
                    $0.string(.key, PlaintextMark.metadata)
                    $0.message(.value, StructField.self) { $0.entry(PlaintextMark.key) { $0.chosenBool(.bool_value, true) } }
                }
            }
        }
        message.wrapped(.load_balancing_weight, weight)
    }

    static func read(_ message: MessageReader<Fields>) -> Endpoint? {
        message.refuse(.endpoint_name)
        guard
            let endpoint = message.required(.endpoint, EndpointField.self),
            let address = endpoint.required(.address, AddressField.self),
            let (host, port, _) = readAddress(address, ports: 1...65535)
        else { return nil }
        endpoint.refuse(.additional_addresses)
        return Endpoint(
            host: IPAddress(host).map(Host.ip) ?? .name(host), port: port,
            weight: message.wrapped(.load_balancing_weight, in: 1...UInt32.max) ?? 1,
            isPlaintext: message.message(.metadata, MetadataField.self)?[PlaintextMark.metadata]?[PlaintextMark.key]?.bool(.bool_value)
                ?? false)
    }
}

extension MessageReader<Endpoint.Fields> {
    /// Endpoints that are UNHEALTHY (2), DRAINING (3) or in TIMEOUT (4) take no requests, so they are left out.
    fileprivate var isAvailable: Bool { !(2...4).contains(number(.health_status)) }
}

/// envoy.config.endpoint.v3.Endpoint.
enum EndpointField: Int, WireField {
    case address = 1
    case hostname = 3
    case additional_addresses = 4
}
