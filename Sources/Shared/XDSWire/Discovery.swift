import Base
import ProxyConfig

/// google.rpc.Status.
public struct RPCStatus: Hashable, Sendable {
    /// google.rpc.Code: 3 is INVALID_ARGUMENT.
    public var code: Int32
    public var message: String

    public init(code: Int32, message: String) {
        self.code = code
        self.message = message
    }
}

/// google.protobuf.Any: a message of any type, packed.
public struct AnyMessage: Hashable, Sendable {
    public var typeURL: String
    public var value: [UInt8]

    public init(typeURL: String, value: [UInt8]) {
        self.typeURL = typeURL
        self.value = value
    }

    public init<Resource: WireResource>(_ resource: Resource) {
        self.init(typeURL: Resource.resourceType.typeURL, value: resource.encoded())
    }
}

/// envoy.service.discovery.v3.DiscoveryRequest: what a proxy asks for, accepts (ACK) or refuses (NACK, with `errorDetail`).
public struct DiscoveryRequest: Hashable, Sendable {
    public var versionInfo: String
    /// In the first request of a stream only.
    public var node: ClientNode?
    public var resourceNames: [String]
    public var typeURL: String
    public var responseNonce: String
    public var errorDetail: RPCStatus?

    public init(
        versionInfo: String = "", node: ClientNode? = nil, resourceNames: [String] = [], typeURL: String, responseNonce: String = "",
        errorDetail: RPCStatus? = nil
    ) {
        self.versionInfo = versionInfo
        self.node = node
        self.resourceNames = resourceNames
        self.typeURL = typeURL
        self.responseNonce = responseNonce
        self.errorDetail = errorDetail
    }

    public init(decoding bytes: [UInt8]) throws(WireErrors) {
        self = try decodeMessage(Self.self, bytes[...], "DiscoveryRequest").value
    }

    public func encoded() -> [UInt8] { wireBytes(self) }
}

/// envoy.service.discovery.v3.DiscoveryResponse: resources of one type.
public struct DiscoveryResponse: Hashable, Sendable {
    public var versionInfo: String
    public var resources: [AnyMessage]
    public var typeURL: String
    public var nonce: String
    /// control_plane.identifier.
    public var controlPlane: String

    public init(versionInfo: String, resources: [AnyMessage], typeURL: String, nonce: String = "", controlPlane: String = "") {
        self.versionInfo = versionInfo
        self.resources = resources
        self.typeURL = typeURL
        self.nonce = nonce
        self.controlPlane = controlPlane
    }

    /// The version is the hash of the content.
    public init<Resource: WireResource>(_ resources: [Resource]) {
        let messages = resources.map { AnyMessage($0) }
        var hash = ContentHash()
        for message in messages {
            // The length first, or bytes could move from one resource to the next unseen.
            hash.combine(lengthBytes(message.value.count))
            hash.combine(message.value)
        }
        self.init(versionInfo: hash.description, resources: messages, typeURL: Resource.resourceType.typeURL)
    }

    public init(decoding bytes: [UInt8]) throws(WireErrors) {
        self = try decodeMessage(Self.self, bytes[...], "DiscoveryResponse").value
    }

    public func encoded() -> [UInt8] { wireBytes(self) }

    /// - Throws: the errors of all resources, and those of two resources of one name.
    public func decodeResources() throws(WireErrors) -> [DecodedResource] {
        guard let type = ResourceType(rawValue: typeURL) else {
            let found = typeURL.isEmpty ? "nothing" : typeURL
            throw WireErrors([
                WireError(
                    resource: "DiscoveryResponse",
                    error: FieldError(path: FieldPath() / "type_url", expected: "a type of resource", found: found))
            ])
        }
        var decoded: [DecodedResource] = []
        var names: Set<String> = []
        var errors: [WireError] = []
        for (index, resource) in resources.enumerated() {
            func fail(_ path: FieldPath, _ expected: String, _ found: String) {
                errors.append(WireError(resource: "DiscoveryResponse", error: FieldError(path: path, expected: expected, found: found)))
            }
            let path = (FieldPath() / "resources")[index]
            guard resource.typeURL == typeURL else {
                fail(path / "type_url", typeURL, resource.typeURL.isEmpty ? "nothing" : resource.typeURL)
                continue
            }
            do throws(WireErrors) {
                let value = try DecodedResource(type, resource.value)
                if !names.insert(value.name).inserted { fail(path, "each \(type.name) once", "\"\(value.name)\" again") }
                decoded.append(value)
            } catch {
                errors += error.errors
            }
        }
        if !errors.isEmpty { throw WireErrors(errors) }
        return decoded
    }
}

private func lengthBytes(_ count: Int) -> [UInt8] {
    stride(from: 0, to: 64, by: 8).map { UInt8(truncatingIfNeeded: count >> $0) }
}

extension RPCStatus: WireMessage {
    enum Fields: Int, WireField {
        case code = 1
        case message = 2
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.number(.code, code)
        message.string(.message, self.message)
    }

    static func read(_ message: MessageReader<Fields>) -> RPCStatus? {
        RPCStatus(code: Int32(truncatingIfNeeded: message.signed(.code)), message: message.string(.message))
    }
}

extension AnyMessage: WireMessage {
    func write(to message: inout MessageWriter<AnyField>) {
        message.string(.type_url, typeURL)
        message.bytes(.value, value)
    }

    static func read(_ message: MessageReader<AnyField>) -> AnyMessage? {
        AnyMessage(typeURL: message.string(.type_url), value: Array(message.bytes(.value) ?? []))
    }
}

extension DiscoveryRequest: WireMessage {
    enum Fields: Int, WireField {
        case version_info = 1
        case node = 2
        case resource_names = 3
        case type_url = 4
        case response_nonce = 5
        case error_detail = 6
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.string(.version_info, versionInfo)
        if let node { message.message(.node, node) }
        message.strings(.resource_names, resourceNames)
        message.string(.type_url, typeURL)
        message.string(.response_nonce, responseNonce)
        if let errorDetail { message.message(.error_detail, errorDetail) }
    }

    static func read(_ message: MessageReader<Fields>) -> DiscoveryRequest? {
        DiscoveryRequest(
            versionInfo: message.string(.version_info), node: message.message(.node, ClientNode.self),
            resourceNames: message.strings(.resource_names), typeURL: message.string(.type_url),
            responseNonce: message.string(.response_nonce),
            errorDetail: message.message(.error_detail, RPCStatus.self))
    }
}

extension DiscoveryResponse: WireMessage {
    enum Fields: Int, WireField {
        case version_info = 1
        case resources = 2
        case type_url = 4
        case nonce = 5
        case control_plane = 6
    }

    /// envoy.config.core.v3.ControlPlane.
    enum ControlPlaneField: Int, WireField {
        case identifier = 1
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.string(.version_info, versionInfo)
        message.messages(.resources, resources)
        message.string(.type_url, typeURL)
        message.string(.nonce, nonce)
        if !controlPlane.isEmpty { message.message(.control_plane, ControlPlaneField.self) { $0.string(.identifier, controlPlane) } }
    }

    static func read(_ message: MessageReader<Fields>) -> DiscoveryResponse? {
        DiscoveryResponse(
            versionInfo: message.string(.version_info), resources: message.messages(.resources, AnyMessage.self),
            typeURL: message.string(.type_url), nonce: message.string(.nonce),
            controlPlane: message.message(.control_plane, ControlPlaneField.self)?.string(.identifier) ?? "")
    }
}
