import Base
import MeshModel

extension EndpointSet {
    init?(_ meta: ResourceMeta, _ spec: ObjectReader) {
        let node = spec.required("virtualNodeRef", .object(ObjectReference.init))
        let endpoints = spec.required("endpoints", .list(of: .object(Endpoint.init), count: 1...1000))
        guard let node, let endpoints else { return nil }
        self.init(meta: meta, virtualNode: node, endpoints: endpoints)
    }
}

extension EndpointSet.Endpoint {
    init?(_ object: ObjectReader) {
        let address = object.required("address", .endpointAddress)
        let port = object.optional("port", .port)
        let weight = object.optional("weight", .integer(1...128))
        let zone = object.optional("zone", .string(1...255))
        guard let address else { return nil }
        if address.port != nil, port != nil {
            object.problem(at: ["port"], .message("the address has a port of its own; give it once"))
        }
        self.init(ip: address.ip, port: address.port ?? port, weight: weight, zone: zone)
    }
}

extension FieldType where Value == (ip: IPAddress, port: Port?) {
    fileprivate static var endpointAddress: FieldType {
        .text("an IP address, alone or with a port (for a host name use serviceDiscovery.dns)") { text in
            if let ip = IPAddress(text) { return (ip, nil) }
            return SocketAddress(text).flatMap { $0.port > 0 ? ($0.ip, $0.port) : nil }
        }
    }
}
