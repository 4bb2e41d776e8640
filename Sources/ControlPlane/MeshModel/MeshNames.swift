/// The names that the mesh's side sees (dashboards, statistics, Host): `awsName`, or what App Mesh made up without one.
public protocol MeshNamed: MeshResource {
    var awsName: String? { get }
}

extension MeshNamed {
    /// `awsName`, else `name.namespace` of a VirtualService, `name` of a Mesh, `name_namespace` of every other kind.
    public var meshName: String {
        if let awsName { return awsName }
        return switch Self.kind {
        case .mesh: meta.name
        case .virtualService: "\(meta.name).\(meta.namespace)"
        default: "\(meta.name)_\(meta.namespace)"
        }
    }
}

extension Mesh: MeshNamed {}
extension VirtualNode: MeshNamed {}
extension VirtualService: MeshNamed {}
extension VirtualRouter: MeshNamed {}
extension VirtualGateway: MeshNamed {}
extension GatewayRoute: MeshNamed {}
