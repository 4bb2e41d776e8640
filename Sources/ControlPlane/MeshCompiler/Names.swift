import Base
import MeshModel

/// The names that App Mesh gave to the pieces of a proxy's configuration: dashboards are built on them.
enum Names {
    enum Direction: String {
        case ingress
        case egress
    }

    static func listener(_ direction: Direction, _ address: SocketAddress) -> String {
        "lds_\(direction.rawValue)_\(address.ip)_\(address.port)"
    }

    static func routes(_ direction: Direction, port: Port) -> String {
        "rds_\(direction.rawValue)_http_\(port)"
    }

    static func cluster(_ direction: Direction, mesh: String, node: String, _ mapping: PortMapping) -> String {
        "cds_\(direction.rawValue)_\(mesh)_\(node)_\(mapping.protocol.rawValue)_\(mapping.port)"
    }

    static func allowAllCluster(mesh: String) -> String {
        "cds_egress_\(mesh)_mesh-allow-all"
    }
}
