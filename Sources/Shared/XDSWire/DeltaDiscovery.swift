import Base
import ProxyConfig

/// envoy.service.discovery.v3.DeltaDiscoveryRequest: what a proxy wants from now on and no longer, accepts (ACK) or refuses (NACK, with
/// `errorDetail`). One message may be several of these at once.
public struct DeltaDiscoveryRequest: Hashable, Sendable {
    /// In the first request of a stream only.
    public var node: ClientNode?
    public var typeURL: String
    /// `*` = everything.
    public var subscribe: [String]
    public var unsubscribe: [String]
    /// By name, what the proxy holds already: in the first request of a type on a stream only.
    public var initialVersions: [String: String]
    public var responseNonce: String
    public var errorDetail: RPCStatus?

    public init(
        node: ClientNode? = nil, typeURL: String, subscribe: [String] = [], unsubscribe: [String] = [],
        initialVersions: [String: String] = [:], responseNonce: String = "", errorDetail: RPCStatus? = nil
    ) {
        self.node = node
        self.typeURL = typeURL
        self.subscribe = subscribe
        self.unsubscribe = unsubscribe
        self.initialVersions = initialVersions
        self.responseNonce = responseNonce
        self.errorDetail = errorDetail
    }

    public init(decoding bytes: [UInt8]) throws(WireErrors) {
        self = try decodeMessage(Self.self, bytes[...], "DeltaDiscoveryRequest").value
    }

    public func encoded() -> [UInt8] { wireBytes(self) }
}

/// envoy.service.discovery.v3.DeltaDiscoveryResponse: what has changed of one type.
public struct DeltaDiscoveryResponse: Hashable, Sendable {
    /// For people; a proxy goes by the versions of the resources.
    public var systemVersion: String
    public var resources: [EncodedResource]
    public var typeURL: String
    public var removed: [String]
    public var nonce: String
    /// control_plane.identifier.
    public var controlPlane: String

    public init(
        systemVersion: String = "", resources: [EncodedResource] = [], typeURL: String, removed: [String] = [], nonce: String,
        controlPlane: String = ""
    ) {
        self.systemVersion = systemVersion
        self.resources = resources
        self.typeURL = typeURL
        self.removed = removed
        self.nonce = nonce
        self.controlPlane = controlPlane
    }

    public init(decoding bytes: [UInt8]) throws(WireErrors) {
        self = try decodeMessage(Self.self, bytes[...], "DeltaDiscoveryResponse").value
    }

    public func encoded() -> [UInt8] { wireBytes(self) }

    /// - Throws: the errors of all resources, and those of two resources of one name.
    public func decodeResources() throws(WireErrors) -> [DecodedResource] {
        var errors: [WireError] = []
        func fail(_ path: FieldPath, _ expected: String, _ found: String) {
            let error = FieldError(path: path, expected: expected, found: found)
            errors.append(WireError(resource: "DeltaDiscoveryResponse", error: error))
        }
        guard let type = ResourceType(rawValue: typeURL) else {
            fail(FieldPath() / "type_url", "a type of resource", typeURL.isEmpty ? "nothing" : typeURL)
            throw WireErrors(errors)
        }
        var decoded: [DecodedResource] = []
        var names = Set(removed)
        for (index, resource) in resources.enumerated() {
            let path = (FieldPath() / "resources")[index]
            if !names.insert(resource.name).inserted { fail(path, "each \(type.name) once", "\"\(resource.name)\" again") }
            do throws(WireErrors) {
                decoded.append(try resource.decode(type))
            } catch {
                errors += error.errors
            }
        }
        if !errors.isEmpty { throw WireErrors(errors) }
        return decoded
    }
}

extension DeltaDiscoveryRequest: WireMessage {
    enum Fields: Int, WireField {
        case node = 1
        case type_url = 2
        case resource_names_subscribe = 3
        case resource_names_unsubscribe = 4
        case initial_resource_versions = 5
        case response_nonce = 6
        case error_detail = 7
    }

    func write(to message: inout MessageWriter<Fields>) {
        if let node { message.message(.node, node) }
        message.string(.type_url, typeURL)
        message.strings(.resource_names_subscribe, subscribe)
        message.strings(.resource_names_unsubscribe, unsubscribe)
        // A map has no order of its own; equal requests shall have equal bytes.
        for (name, version) in initialVersions.sorted(by: { $0.key < $1.key }) {
            message.message(.initial_resource_versions, MapEntryField.self) {
                $0.string(.key, name)
                $0.string(.value, version)
            }
        }
        message.string(.response_nonce, responseNonce)
        if let errorDetail { message.message(.error_detail, errorDetail) }
    }

    static func read(_ message: MessageReader<Fields>) -> DeltaDiscoveryRequest? {
        var versions: [String: String] = [:]
        for entry in message.messages(.initial_resource_versions, MapEntryField.self) {
            versions[entry.string(.key)] = entry.string(.value)
        }
        return DeltaDiscoveryRequest(
            node: message.message(.node, ClientNode.self), typeURL: message.string(.type_url),
            subscribe: message.strings(.resource_names_subscribe), unsubscribe: message.strings(.resource_names_unsubscribe),
            initialVersions: versions, responseNonce: message.string(.response_nonce),
            errorDetail: message.message(.error_detail, RPCStatus.self))
    }
}

extension DeltaDiscoveryResponse: WireMessage {
    enum Fields: Int, WireField {
        case system_version_info = 1
        case resources = 2
        case type_url = 4
        case nonce = 5
        case removed_resources = 6
        case control_plane = 7
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.string(.system_version_info, systemVersion)
        message.messages(.resources, resources)
        message.string(.type_url, typeURL)
        message.string(.nonce, nonce)
        message.strings(.removed_resources, removed)
        if !controlPlane.isEmpty {
            message.message(.control_plane, DiscoveryResponse.ControlPlaneField.self) { $0.string(.identifier, controlPlane) }
        }
    }

    static func read(_ message: MessageReader<Fields>) -> DeltaDiscoveryResponse? {
        DeltaDiscoveryResponse(
            systemVersion: message.string(.system_version_info), resources: message.messages(.resources, EncodedResource.self),
            typeURL: message.string(.type_url), removed: message.strings(.removed_resources), nonce: message.string(.nonce),
            controlPlane: message.message(.control_plane, DiscoveryResponse.ControlPlaneField.self)?.string(.identifier) ?? "")
    }
}

extension EncodedResource: WireMessage {
    /// envoy.service.discovery.v3.Resource.
    enum Fields: Int, WireField {
        case version = 1
        case resource = 2
        case name = 3
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.string(.version, version)
        message.message(.resource, self.message)
        message.string(.name, name)
    }

    static func read(_ message: MessageReader<Fields>) -> EncodedResource? {
        let name = message.requiredString(.name)
        guard let resource = message.required(.resource, AnyMessage.self) else { return nil }
        return EncodedResource(name: name, version: message.string(.version), message: resource)
    }
}
