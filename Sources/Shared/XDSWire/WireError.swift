public import Base
import ProxyConfig

/// One value of one resource that is not what it must be.
public struct WireError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The kind and name of the resource: `Listener/inbound`, `Snapshot`. The name is missing where it could not be read.
    public var resource: String
    /// The path consists of the names of protobuf fields; what is packed into an `Any` follows its field as if it stood there.
    public var error: FieldError

    public init(resource: String, error: FieldError) {
        self.resource = resource
        self.error = error
    }

    public var description: String { error.path.steps.isEmpty ? "\(resource)\(error)" : "\(resource) \(error)" }
}

/// Everything that is wrong with what was decoded, in the order of the bytes. Never empty.
public struct WireErrors: Error, Hashable, Sendable, CustomStringConvertible {
    public var errors: [WireError]

    public init(_ errors: [WireError]) {
        self.errors = errors
    }

    /// One error a line.
    public var description: String { errors.map(\.description).joined(separator: "\n") }
}

/// What the decoding of one resource gathers beside its value.
final class DecodingContext {
    /// Beyond this many errors nobody reads on, and a hostile resource shall not fill memory with complaints.
    static let limit = 100

    private(set) var errors: [FieldError] = []
    /// Of the listener that is being read.
    var listenerName = ""
    /// Route configurations that stand inside of the listener instead of beside it.
    var inlineRoutes: [RouteConfiguration] = []

    func add(_ path: FieldPath, expected: String, found: String) {
        guard errors.count < Self.limit else { return }
        errors.append(FieldError(path: path, expected: expected, found: found))
    }
}
