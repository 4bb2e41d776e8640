import Base

extension MeshChecker {
    mutating func checkSidecars() {
        var first: [ResourceKey: ResourceKey] = [:]
        for sidecar in resources.sidecars {
            let subject: ResourceKey
            let path: FieldPath
            let mappings: [PortMapping]
            switch sidecar.subject {
            case .virtualNode(let reference):
                path = .spec / "virtualNodeRef"
                subject = reference.key(.virtualNode, from: sidecar.meta)
                check(reference, to: .virtualNode, from: sidecar, at: path)
                mappings = resources.virtualNodes[subject]?.listeners.compactMap(\.portMapping) ?? []
            case .virtualGateway(let reference):
                path = .spec / "virtualGatewayRef"
                subject = reference.key(.virtualGateway, from: sidecar.meta)
                check(reference, to: .virtualGateway, from: sidecar, at: path)
                mappings = resources.virtualGateways[subject]?.listeners.map(\.portMapping) ?? []
            }
            if let other = first[subject] {
                error(sidecar.key, path, .message("\(subject) has a Sidecar already: \(other.qualified)\(place(of: other))"))
            } else {
                first[subject] = sidecar.key
            }
            checkInbound(of: sidecar, mappings: mappings, subject: subject)
            checkOutbound(of: sidecar, subject: subject)
            checkBinds(of: sidecar)
            checkARNs(sidecar.certificates.map(\.arn), of: sidecar, "certificates")
            checkARNs(sidecar.authorities.map(\.arn), of: sidecar, "authorities")
        }
    }

    private mutating func checkInbound(of sidecar: Sidecar, mappings: [PortMapping], subject: ResourceKey) {
        let path = FieldPath.spec / "inbound"
        for (index, inbound) in sidecar.inbound.enumerated() {
            check(inbound.port, isOneOf: mappings, of: "\(subject)'s", from: sidecar.key, at: path[index] / "port", neededAs: .error)
            guard subject.kind == .virtualGateway else { continue }
            let given = [("app", inbound.app != nil), ("appTLS", inbound.appTLS != nil)]
            for (field, _) in given.filter(\.1) {
                warn(sidecar.key, path[index] / field, "without effect: there is no application beside a gateway")
            }
        }
        checkDuplicates(ofPorts: sidecar.inbound.enumerated().map { ($1.port, path[$0] / "port") }, in: sidecar.key)
    }

    private mutating func checkOutbound(of sidecar: Sidecar, subject: ResourceKey) {
        let path = FieldPath.spec / "outbound" / "tcp"
        for (index, outbound) in sidecar.outboundTCP.enumerated() {
            let key = outbound.virtualService.key(.virtualService, from: sidecar.meta)
            check(outbound.virtualService, to: .virtualService, from: sidecar, at: path[index] / "virtualService")
            guard let service = resources.virtualServices[key] else { continue }
            if let mappings = resources.portMappings(of: service) {
                check(outbound.port, isOneOf: mappings, of: "\(key)'s", from: sidecar.key, at: path[index] / "port", neededAs: .error)
            }
            if let node = resources.virtualNodes[subject], !resources.backends(of: node).contains(key) {
                warn(sidecar.key, path[index] / "virtualService", "\(key) is not among the backends of \(subject)")
            }
        }
    }

    /// Two listeners cannot have one address. The kernel would say so too, but later and without the line.
    private mutating func checkBinds(of sidecar: Sidecar) {
        var binds: [(SocketAddress, FieldPath)] = []
        if let address = sidecar.adminAddress { binds.append((address, .spec / "admin" / "address")) }
        for (index, inbound) in sidecar.inbound.enumerated() {
            if let bind = inbound.bind { binds.append((bind, (.spec / "inbound")[index] / "bind")) }
        }
        if let bind = sidecar.outboundHTTP { binds.append((bind, .spec / "outbound" / "http" / "bind")) }
        for (index, outbound) in sidecar.outboundTCP.enumerated() {
            binds.append((outbound.bind, (.spec / "outbound" / "tcp")[index] / "bind"))
        }
        for (index, (address, path)) in binds.enumerated() where address.port != 0 {
            if let (other, otherPath) = binds[..<index].first(where: { $0.0.overlaps(address) }) {
                error(sidecar.key, path, .message("\(address) is already taken by \(otherPath) (\(other))"))
            }
        }
    }

    private mutating func checkARNs(_ arns: [String], of sidecar: Sidecar, _ field: String) {
        var seen: Set<String> = []
        for (index, arn) in arns.enumerated() where !seen.insert(arn).inserted {
            error(sidecar.key, (.spec / field)[index] / "arn", .message("already mapped above: \(arn)"))
        }
    }
}

extension SocketAddress {
    /// Equal, or one is every address of the other's family.
    fileprivate func overlaps(_ other: SocketAddress) -> Bool {
        guard port == other.port, ip.isV4 == other.ip.isV4 else { return false }
        let any: [IPAddress] = [.anyV4, .v6(0, 0)]
        return ip == other.ip || any.contains(ip) || any.contains(other.ip)
    }
}

extension MeshResources {
    /// Every VirtualService that a node may call: its backends and the members of its backend groups, each once, in the order of the
    /// file. Those that do not exist are among them.
    public func backends(of node: VirtualNode) -> [ResourceKey] {
        var result: [ResourceKey] = []
        var seen: Set<ResourceKey> = []
        func add(_ key: ResourceKey) { if seen.insert(key).inserted { result.append(key) } }
        for backend in node.backends {
            if let key = backend.virtualService.key(.virtualService, from: node.meta) { add(key) }
        }
        for group in node.backendGroups {
            let key = group.key(.backendGroup, from: node.meta)
            if group.name == "*" {
                for service in virtualServices where service.meta.namespace == key.namespace { add(service.key) }
            } else if let members = backendGroups[key] {
                for member in members.virtualServices { add(member.key(.virtualService, from: members.meta)) }
            }
        }
        return result
    }
}
