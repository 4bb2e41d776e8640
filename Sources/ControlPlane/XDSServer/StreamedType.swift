import ProxyConfig
import XDSWire

/// What a stream delivers, in the order in which it is pushed: what is pointed to comes before what points to it.
public enum StreamedType: Hashable, Sendable, CaseIterable {
    /// A message of our own, of which there is one; foreign clients do not ask for it.
    case settings
    case secret
    case cluster
    case clusterLoadAssignment
    case listener
    case routeConfiguration

    init(_ type: ResourceType) {
        switch type {
        case .secret: self = .secret
        case .cluster: self = .cluster
        case .clusterLoadAssignment: self = .clusterLoadAssignment
        case .listener: self = .listener
        case .routeConfiguration: self = .routeConfiguration
        }
    }

    init?(typeURL: String) {
        guard let type = Self.allCases.first(where: { $0.typeURL == typeURL }) else { return nil }
        self = type
    }

    private var resourceType: ResourceType? {
        switch self {
        case .settings: nil
        case .secret: .secret
        case .cluster: .cluster
        case .clusterLoadAssignment: .clusterLoadAssignment
        case .listener: .listener
        case .routeConfiguration: .routeConfiguration
        }
    }

    public var typeURL: String { resourceType?.typeURL ?? NodeSettings.typeURL }
    /// `Cluster`, `Listener`, ...
    public var name: String { resourceType?.name ?? "NodeSettings" }

    /// Asked for without names, everything is meant; and in state of the world what a response lacks is deleted.
    var isWhole: Bool { self == .cluster || self == .listener || self == .settings }

    /// Before listeners and routes may move, these must have been accepted.
    static let foundations: [StreamedType] = [.settings, .secret, .cluster, .clusterLoadAssignment]
    static let users: [StreamedType] = [.listener, .routeConfiguration]
}
