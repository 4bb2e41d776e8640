public import XDSWire

/// What a stream is asked for, in the order of asking: what is pointed to comes before what points to it.
public enum DiscoveredType: Int, Hashable, Sendable, CaseIterable {
    /// Who we are and how the process runs. A message of our own: other control planes answer nothing.
    case nodeSettings
    case cluster
    case clusterLoadAssignment
    case secret
    case listener
    case routeConfiguration

    public init?(typeURL: String) {
        guard let type = Self.allCases.first(where: { $0.typeURL == typeURL }) else { return nil }
        self = type
    }

    public init(_ type: ResourceType) {
        switch type {
        case .cluster: self = .cluster
        case .clusterLoadAssignment: self = .clusterLoadAssignment
        case .secret: self = .secret
        case .listener: self = .listener
        case .routeConfiguration: self = .routeConfiguration
        }
    }

    /// Nil for what is no resource of xDS.
    var resourceType: ResourceType? {
        switch self {
        case .nodeSettings: nil
        case .cluster: .cluster
        case .clusterLoadAssignment: .clusterLoadAssignment
        case .secret: .secret
        case .listener: .listener
        case .routeConfiguration: .routeConfiguration
        }
    }

    public var typeURL: String { resourceType?.typeURL ?? NodeSettings.typeURL }

    /// `Listener`, `Cluster`, ...
    public var name: String { resourceType?.name ?? "NodeSettings" }

    /// Subscribed whole, by no names: absence in a response is deletion. The others' responses may be partial.
    public var isWildcard: Bool {
        switch self {
        case .nodeSettings, .cluster, .listener: true
        case .clusterLoadAssignment, .secret, .routeConfiguration: false
        }
    }
}

/// Something that a snapshot needs and that has not come.
public struct ResourceReference: Hashable, Comparable, Sendable, CustomStringConvertible {
    public var type: DiscoveredType
    /// Nil: the first response of the type, whatever is in it.
    public var name: String?

    public static func < (left: ResourceReference, right: ResourceReference) -> Bool {
        (left.type.rawValue, left.name ?? "") < (right.type.rawValue, right.name ?? "")
    }

    /// `Cluster/color`, `every Listener`.
    public var description: String { name.map { "\(type.name)/\($0)" } ?? "every \(type.name)" }
}
