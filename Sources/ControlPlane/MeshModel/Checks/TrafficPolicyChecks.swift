import Base

extension MeshChecker {
    mutating func checkTrafficPolicies() {
        var byTarget: [TrafficPolicy.Site: [TrafficPolicy]] = [:]
        for policy in resources.trafficPolicies {
            let target = FieldPath.spec / "targetRef"
            check(policy.target.reference, to: policy.targetKey.kind, from: policy, at: target)
            checkRoute(of: policy, at: target / "route")
            for (index, caller) in policy.callers.enumerated() {
                let kind = policy.callerKeys[index].kind
                check(caller.reference, to: kind, from: policy, at: (.spec / "callers")[index])
            }
            for (index, mirror) in policy.allMirrors.enumerated() { checkMirror(mirror, of: policy, at: (.spec / "mirror")[index]) }
            let site = TrafficPolicy.Site(target: policy.targetKey, route: policy.target.route)
            for other in byTarget[site] ?? [] { checkContradiction(policy, other) }
            byTarget[site, default: []].append(policy)
        }
    }

    /// A route's name that its router does not have does nothing.
    private mutating func checkRoute(of policy: TrafficPolicy, at path: FieldPath) {
        guard let name = policy.target.route else { return }
        let router: VirtualRouter?
        switch policy.targetKey.kind {
        case .virtualRouter: router = resources.virtualRouters[policy.targetKey]
        case .virtualService:
            guard let service = resources.virtualServices[policy.targetKey] else { return }
            guard case .virtualRouter(let reference) = service.provider else {
                warn(policy.key, path, "\(service.key) has no routes with names, as no VirtualRouter provides it: this does nothing")
                return
            }
            router = reference.key(.virtualRouter, from: service.meta).flatMap { resources.virtualRouters[$0] }
        default: return
        }
        guard let router, !router.routes.contains(where: { $0.name == name }) else { return }
        let names = router.routes.map(\.name).joined(separator: ", ")
        error(policy.key, path, .mismatch(expected: "a route of \(router.key.qualified) (\(names))", found: name))
    }

    private mutating func checkMirror(_ mirror: TrafficPolicy.Mirror, of policy: TrafficPolicy, at path: FieldPath) {
        check(mirror.virtualNode, to: .virtualNode, from: policy, at: path / "virtualNode")
        let key = mirror.virtualNode.key(.virtualNode, from: policy.meta)
        if key == policy.targetKey {
            error(policy.key, path / "virtualNode", .message("\(key) is what is called: each request would go there twice"))
        }
        guard let port = mirror.port, let node = resources.virtualNodes[key] else { return }
        check(
            port, isOneOf: node.listeners.compactMap(\.portMapping), of: "\(key)'s", from: policy.key, at: path / "port", neededAs: .error)
    }

    /// Two that hold for one call and are equally particular, and set the same.
    private mutating func checkContradiction(_ policy: TrafficPolicy, _ other: TrafficPolicy) {
        let callers = Set(policy.callerKeys)
        // One that names callers goes before one that does not.
        guard callers.isEmpty == other.callers.isEmpty, callers.isEmpty || !callers.isDisjoint(with: other.callerKeys) else { return }
        let common = policy.parts.filter(other.parts.contains)
        guard !common.isEmpty else { return }
        let words = common.map(\.rawValue).joined(separator: ", ")
        error(
            policy.key, .spec / "targetRef",
            .message("\(other.key.qualified)\(place(of: other.key)) sets \(words) of the same target too: which of both holds is not said"))
    }
}

extension TrafficPolicy {
    /// What a policy is attached to.
    fileprivate struct Site: Hashable {
        var target: ResourceKey
        var route: String?
    }
}
