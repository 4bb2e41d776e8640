import Base
public import ProxyConfig

/// Who a proxy is and how its process runs, as its control plane sees it (outrigger.v1.NodeSettings): what a snapshot holds beside xDS
/// resources. A type of ours on the ADS stream, subscribed by no names; a response holds one.
public struct NodeSettings: Hashable, Sendable {
    public static let typeURL = "type.googleapis.com/outrigger.v1.NodeSettings"

    /// Nil = what the proxy says of itself holds.
    public var node: Node?
    /// Nil = what the proxy was started with holds.
    public var process: ProcessSettings?

    public init(node: Node? = nil, process: ProcessSettings? = nil) {
        self.node = node
        self.process = process
    }

    public func encoded() -> [UInt8] { wireBytes(self) }

    /// What a response holds; nil = nothing is set.
    ///
    /// - Throws: every error; also more than one resource, and one of another type.
    public init?(_ response: DiscoveryResponse) throws(WireErrors) {
        func fail(_ path: FieldPath, _ expected: String, _ found: String) -> WireErrors {
            let error = FieldError(path: path, expected: expected, found: found)
            return WireErrors([WireError(resource: "DiscoveryResponse", error: error)])
        }
        guard let first = response.resources.first else { return nil }
        let path = FieldPath() / "resources"
        guard response.resources.count == 1 else { throw fail(path, "one NodeSettings", "\(response.resources.count)") }
        guard first.typeURL == Self.typeURL else { throw fail(path[0] / "type_url", Self.typeURL, "\"\(first.typeURL)\"") }
        self = try decodeMessage(Self.self, first.value[...], "NodeSettings").value
    }
}

extension NodeSettings: WireMessage {
    enum Fields: Int, WireField {
        case node = 1
        case process = 2
    }

    func write(to message: inout MessageWriter<Fields>) {
        if let node { message.message(.node, node) }
        if let process { message.message(.process, process) }
    }

    static func read(_ message: MessageReader<Fields>) -> NodeSettings? {
        NodeSettings(node: message.message(.node, Node.self), process: message.message(.process, ProcessSettings.self))
    }
}
