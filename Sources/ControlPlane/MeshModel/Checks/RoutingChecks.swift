import Base

extension MeshChecker {
    mutating func checkVirtualServices() {
        for service in resources.virtualServices {
            let path = FieldPath.spec / "provider"
            switch service.provider {
            case .virtualNode(let reference): check(reference, to: .virtualNode, from: service, at: path / "virtualNode", "virtualNode")
            case .virtualRouter(let reference):
                check(reference, to: .virtualRouter, from: service, at: path / "virtualRouter", "virtualRouter")
            case nil: break
            }
        }
    }

    mutating func checkVirtualRouters() {
        for router in resources.virtualRouters {
            checkDuplicates(
                ofPorts: router.listeners.enumerated().map { ($1.port, (.spec / "listeners")[$0] / "portMapping" / "port") }, in: router.key
            )
            var names: Set<String> = []
            for (index, route) in router.routes.enumerated() {
                let path = (.spec / "routes")[index]
                if !names.insert(route.name).inserted {
                    error(
                        router.key, path / "name",
                        .message("VirtualRouter-\(router.meta.name) has duplicate route entries for \(route.name)"))
                }
                check(route, of: router, at: path / "\(route.rule.protocol.rawValue)Route")
            }
        }
    }

    private mutating func check(_ route: RouterRoute, of router: VirtualRouter, at path: FieldPath) {
        let `protocol` = route.rule.protocol
        check(
            route.rule.port, isOneOf: router.listeners, of: "the router's", from: router.key, at: path / "match" / "port", neededAs: .error)
        let listeners = router.listeners.filter { route.rule.port == nil || $0.port == route.rule.port }
        if !listeners.isEmpty, !listeners.contains(where: { $0.protocol == `protocol` }) {
            let found = Set(listeners.map(\.protocol.rawValue)).sorted().joined(separator: ", ")
            warn(
                router.key, path,
                "the router listens with protocol \(found), the route is for \(`protocol`.rawValue): what happens is not defined")
        }
        let targets = path / "action" / "weightedTargets"
        for (index, target) in route.rule.targets.enumerated() {
            check(target.virtualNode, to: .virtualNode, from: router, at: targets[index], "virtualNode")
            guard let key = target.virtualNode.key(.virtualNode, from: router.meta), let node = resources.virtualNodes[key] else {
                continue
            }
            let mappings = node.listeners.compactMap(\.portMapping)
            check(target.port, isOneOf: mappings, of: "\(key)'s", from: router.key, at: targets[index] / "port", neededAs: .error)
            let called = mappings.filter { target.port == nil || $0.port == target.port }
            if called.count == 1, called[0].protocol != `protocol` {
                warn(
                    router.key, targets[index],
                    "\(key) listens with protocol \(called[0].protocol.rawValue), the route is for \(`protocol`.rawValue): what "
                        + "happens is not defined"
                )
            }
        }
        if route.rule.targets.allSatisfy({ $0.weight == 0 }) {
            warn(router.key, targets, "every weight is 0: no request of this route can be answered")
        }
    }

    mutating func checkVirtualGateways() {
        for gateway in resources.virtualGateways {
            checkDuplicates(
                ofPorts: gateway.listeners.enumerated().map { ($1.portMapping.port, (.spec / "listeners")[$0] / "portMapping" / "port") },
                in: gateway.key)
            if gateway.listeners.isEmpty { warn(gateway.key, .spec / "listeners", "a gateway without listeners lets nothing in") }
        }
    }

    mutating func checkGatewayRoutes() {
        for route in resources.gatewayRoutes {
            let path = FieldPath.spec / "\(route.rule.protocol.rawValue)Route"
            let target = path / "action" / "target"
            check(route.rule.target.virtualService, to: .virtualService, from: route, at: target / "virtualService", "virtualService")
            checkPort(of: route, at: target / "port")
            let gateways = resources.gateways(of: route)
            switch gateways.count {
            case 0 where !knowsAll(.virtualGateway) || !knowsAll(.mesh): break
            case 0:
                // Not an error: the gateway may come with another file.
                warn(
                    route.key, FieldPath(),
                    "failed to find matching virtualGateway for gatewayRoute: \(route.meta.name), expecting 1 but found 0")
            case 1:
                let listeners = gateways[0].listeners.map(\.portMapping)
                check(
                    route.rule.port, isOneOf: listeners, of: "\(gateways[0].key)'s", from: route.key, at: path / "match" / "port",
                    neededAs: .warning)
                let reached = listeners.filter { route.rule.port == nil || $0.port == route.rule.port }
                if !reached.isEmpty, !reached.contains(where: { $0.protocol == route.rule.protocol }) {
                    let found = Set(reached.map(\.protocol.rawValue)).sorted().joined(separator: ", ")
                    warn(
                        route.key, path,
                        "\(gateways[0].key) listens with protocol \(found), the route is for \(route.rule.protocol.rawValue): it "
                            + "matches nothing"
                    )
                }
            default:
                let names = gateways.map(\.meta.name).joined(separator: ",")
                error(
                    route.key, FieldPath(),
                    .message(
                        "found multiple matching virtualGateways for gatewayRoute: \(route.meta.name), expecting 1 but found "
                            + "\(gateways.count): \(names)"
                    ))
            }
        }
    }

    /// action.target.port is a port of what provides the service.
    private mutating func checkPort(of route: GatewayRoute, at path: FieldPath) {
        guard let key = route.rule.target.virtualService.key(.virtualService, from: route.meta) else { return }
        guard let service = resources.virtualServices[key], let mappings = resources.portMappings(of: service) else { return }
        check(route.rule.target.port, isOneOf: mappings, of: "\(key)'s", from: route.key, at: path, neededAs: .warning)
    }
}

extension MeshResources {
    /// The ports of the router or node that provides a service; nil where there is none, or it is not known.
    public func portMappings(of service: VirtualService) -> [PortMapping]? {
        switch service.provider {
        case .virtualNode(let reference):
            reference.key(.virtualNode, from: service.meta).flatMap { virtualNodes[$0] }?.listeners.compactMap(\.portMapping)
        case .virtualRouter(let reference):
            reference.key(.virtualRouter, from: service.meta).flatMap { virtualRouters[$0] }?.listeners
        case nil: nil
        }
    }
}
