/// XDSWire gives the types of ProxyConfig the wire form of the xDS v3 messages that they mirror.
///
/// Written by hand for the messages that we use, because the runtime of a generated library would weigh more than the proxy. What
/// we write, Envoy accepts with the same meaning. What others write, we read: unknown fields are ignored, deprecated forms are
/// taken, but known fields that would change the meaning and that we cannot honour are errors.

import Base
public import ProxyConfig

/// The kinds of resources that xDS delivers.
public enum ResourceType: String, Hashable, Sendable, CaseIterable {
    // In the order in which they are pushed: what is pointed to comes before what points to it.
    case secret = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
    case cluster = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    case clusterLoadAssignment = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    case listener = "type.googleapis.com/envoy.config.listener.v3.Listener"
    case routeConfiguration = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"

    public var typeURL: String { rawValue }

    /// `Listener`, `Cluster`, ...
    public var name: String { String(rawValue.split(separator: ".").last ?? "") }
}

/// A resource that can be sent: it has a type, a name and bytes.
public protocol WireResource: Hashable, Sendable {
    static var resourceType: ResourceType { get }
    var resourceName: String { get }
    /// The protobuf message. Equal resources have equal bytes.
    func encoded() -> [UInt8]
}

extension Listener: WireResource {
    public static var resourceType: ResourceType { .listener }
    public var resourceName: String { name }
    public func encoded() -> [UInt8] { wireBytes(self) }
}

extension RouteConfiguration: WireResource {
    public static var resourceType: ResourceType { .routeConfiguration }
    public var resourceName: String { name }
    public func encoded() -> [UInt8] { wireBytes(self) }
}

extension Cluster: WireResource {
    public static var resourceType: ResourceType { .cluster }
    public var resourceName: String { name }
    public func encoded() -> [UInt8] { wireBytes(self) }

    /// A `.dns` cluster of one name as LOGICAL_DNS, for clients that know no STRICT_DNS.
    public func encodedWithLogicalDNS() -> [UInt8] {
        var message = MessageWriter<Fields>()
        write(to: &message)
        // Of a field that stands twice the last one counts.
        message.number(.type, DiscoveryType.logicalDNS)
        return message.bytes
    }
}

extension ClusterLoadAssignment: WireResource {
    public static var resourceType: ResourceType { .clusterLoadAssignment }
    public var resourceName: String { clusterName }
    public func encoded() -> [UInt8] { wireBytes(self) }
}

extension Secret: WireResource {
    public static var resourceType: ResourceType { .secret }
    public var resourceName: String { name }
    public func encoded() -> [UInt8] { wireBytes(self) }
}

func wireBytes(_ message: some WireMessage) -> [UInt8] {
    func bytes<Message: WireMessage>(_ message: Message) -> [UInt8] {
        var writer = MessageWriter<Message.Fields>()
        message.write(to: &writer)
        return writer.bytes
    }
    return bytes(message)
}

/// A resource as it was read from the wire.
public enum DecodedResource: Hashable, Sendable {
    /// With the route configurations that stood inside of it. They are called `LISTENER/routes[N]`, and the listener refers to them so.
    case listener(Listener, inlineRoutes: [RouteConfiguration])
    case routeConfiguration(RouteConfiguration)
    case cluster(Cluster)
    case loadAssignment(ClusterLoadAssignment)
    case secret(Secret)

    /// - Throws: every error of the resource.
    public init(_ type: ResourceType, _ bytes: [UInt8]) throws(WireErrors) {
        switch type {
        case .listener:
            let (listener, context) = try decodeMessage(Listener.self, bytes[...], type.name) { $0.string(.name) }
            self = .listener(listener, inlineRoutes: context.inlineRoutes)
        case .routeConfiguration:
            self = .routeConfiguration(
                try decodeMessage(RouteConfiguration.self, bytes[...], type.name) {
                    $0.requiredString(.name)
                }.value)
        case .cluster:
            self = .cluster(try decodeMessage(Cluster.self, bytes[...], type.name) { $0.string(.name) }.value)
        case .clusterLoadAssignment:
            let (assignment, context) = try decodeMessage(ClusterLoadAssignment.self, bytes[...], type.name) { $0.string(.cluster_name) }
            assignment.requireAddresses(FieldPath(), context)
            try context.throwErrors("\(type.name)/\(assignment.clusterName)")
            self = .loadAssignment(assignment)
        case .secret:
            self = .secret(try decodeMessage(Secret.self, bytes[...], type.name) { $0.string(.name) }.value)
        }
    }

    public var type: ResourceType {
        switch self {
        case .listener: .listener
        case .routeConfiguration: .routeConfiguration
        case .cluster: .cluster
        case .loadAssignment: .clusterLoadAssignment
        case .secret: .secret
        }
    }

    public var name: String {
        switch self {
        case .listener(let listener, _): listener.name
        case .routeConfiguration(let routes): routes.name
        case .cluster(let cluster): cluster.name
        case .loadAssignment(let assignment): assignment.clusterName
        case .secret(let secret): secret.name
        }
    }
}

/// Decodes one message with all that belongs to it.
///
/// - Throws: every error, with `kind` and the name that `name` finds.
func decodeMessage<Message: WireMessage>(
    _: Message.Type, _ bytes: ArraySlice<UInt8>, _ kind: String, name: (MessageReader<Message.Fields>) -> String = { _ in "" }
) throws(WireErrors) -> (value: Message, context: DecodingContext) {
    let context = DecodingContext()
    let reader = MessageReader<Message.Fields>(bytes, path: FieldPath(), context: context)
    let name = reader.map(name) ?? ""
    let value = reader.flatMap(Message.read)
    let resource = name.isEmpty ? kind : "\(kind)/\(name)"
    try context.throwErrors(resource)
    guard let value else { preconditionFailure("\(resource) was not decoded, but nothing is wrong with it") }
    return (value, context)
}

extension DecodingContext {
    func throwErrors(_ resource: String) throws(WireErrors) {
        if !errors.isEmpty { throw WireErrors(errors.map { WireError(resource: resource, error: $0) }) }
    }
}
