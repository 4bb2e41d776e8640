import Base

extension MeshChecker {
    mutating func checkVirtualNodes() {
        let withEndpoints = Set(resources.endpointSets.map { $0.virtualNode.key(.virtualNode, from: $0.meta) })
        // A set that could not be read may be for any node: then nothing is said about missing addresses.
        let setsAreKnown = knowsAll(.endpointSet)
        for node in resources.virtualNodes {
            let mappings = node.listeners.enumerated().compactMap { index, listener in listener.portMapping.map { (index, $0) } }
            checkDuplicates(
                ofPorts: mappings.map { ($1.port, (.spec / "listeners")[$0] / "portMapping" / "port") }, in: node.key)
            if !mappings.isEmpty, node.serviceDiscovery == nil, setsAreKnown, !withEndpoints.contains(node.key) {
                error(
                    node.key, .spec / "serviceDiscovery",
                    .message(
                        "required when listeners are given (VirtualNode \"\(node.meta.name)\"), unless an EndpointSet lists the "
                            + "node's addresses"
                    ))
            }
            checkBackends(of: node)
        }
    }

    private mutating func checkBackends(of node: VirtualNode) {
        var seen: Set<ResourceReference> = []
        for (index, backend) in node.backends.enumerated() {
            let path = (.spec / "backends")[index] / "virtualService"
            check(backend.virtualService, to: .virtualService, from: node, at: path, "virtualService")
            // One with its namespace and one without may mean the same.
            var reference = backend.virtualService
            var name = ""
            switch reference {
            case .object(var object):
                name = object.name
                object.namespace = object.namespace ?? node.meta.namespace
                reference = .object(object)
            case .arn(let arn): name = arn
            }
            if !seen.insert(reference).inserted {
                error(node.key, path, .message("VirtualNode-\(node.meta.name) has duplicate VirtualServiceReferences \(name)"))
            }
        }
        for (index, group) in node.backendGroups.enumerated() where group.name != "*" {
            check(group, to: .backendGroup, from: node, at: (.spec / "backendGroups")[index])
        }
    }

    mutating func checkBackendGroups() {
        for group in resources.backendGroups {
            for (index, member) in group.virtualServices.enumerated() {
                check(member, to: .virtualService, from: group, at: (.spec / "virtualservices")[index])
            }
        }
    }

    mutating func checkEndpointSets() {
        /// Where each address was first given.
        var first: [ResourceKey: [EndpointSet.Endpoint: ResourceKey]] = [:]
        for set in resources.endpointSets {
            let node = set.virtualNode.key(.virtualNode, from: set.meta)
            check(set.virtualNode, to: .virtualNode, from: set, at: .spec / "virtualNodeRef")
            for (index, endpoint) in set.endpoints.enumerated() {
                let address = EndpointSet.Endpoint(ip: endpoint.ip, port: endpoint.port)
                if let other = first[node]?[address] {
                    warn(
                        set.key, (.spec / "endpoints")[index] / "address",
                        "already given in \(other.qualified)\(place(of: other)); it gets two shares")
                } else {
                    first[node, default: [:]][address] = set.key
                }
            }
        }
    }
}
