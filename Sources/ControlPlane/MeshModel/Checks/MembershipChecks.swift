import Base

extension MeshChecker {
    /// Each namespace that is used belongs to one mesh. Said once for a namespace, at its first resource.
    mutating func checkMembership() {
        guard knowsAll(.mesh) else { return }
        var byNamespace: [String: [ResourceKey]] = [:]
        for key in resources.all.map(\.key) where key.kind.isNamespaced && key.kind.apiVersion != ResourceKind.sidecar.apiVersion {
            byNamespace[key.namespace ?? "", default: []].append(key)
        }
        for (namespace, keys) in byNamespace.sorted(by: { $0.key < $1.key }) {
            let first = keys.min { place($0) < place($1) }!
            let others = keys.count > 1 ? " (and \(keys.count - 1) more resources of that namespace)" : ""
            switch resources.membership(ofNamespace: namespace) {
            case .mesh: break
            case .implicit(let mesh):
                warn(
                    first, FieldPath(),
                    "no Mesh selects namespace \"\(namespace)\", using implicit mesh \"\(mesh.meta.name)\" (egress ALLOW_ALL)")
            case .assumed(let mesh):
                warn(
                    first, FieldPath(),
                    "no file declares Namespace \"\(namespace)\", so its labels are not known; using \(mesh.key), the only mesh "
                        + "that could select it"
                )
            case .notFound:
                error(
                    first, FieldPath(),
                    .message("failed to find matching mesh for namespace: \(namespace), expecting 1 but found 0\(others)"))
            case .ambiguous(let meshes):
                let names = meshes.map(\.name).joined(separator: ",")
                error(
                    first, FieldPath(),
                    .message(
                        "found multiple matching meshes for namespace: \(namespace), expecting 1 but found \(meshes.count): "
                            + "\(names)\(others)"
                    ))
            }
        }
    }

    private func place(_ key: ResourceKey) -> (String, Int, Int, String) {
        let place = resources.places.location(in: key)
        return (place?.file ?? "", place?.line ?? 0, place?.column ?? 0, key.description)
    }

    /// No two resources of a kind have one name in one mesh: statistics, hosts and dashboards could not tell them apart.
    mutating func checkNames() {
        let resources = resources
        func scope(_ resource: some MeshResource) -> String? {
            resources.membership(ofNamespace: resource.meta.namespace).mesh?.meta.name
        }
        checkNames(resources.meshes) { $0.meshOwner ?? "" }
        checkNames(resources.virtualNodes, scope: scope)
        checkNames(resources.virtualServices, scope: scope)
        checkNames(resources.virtualRouters, scope: scope)
        checkNames(resources.virtualGateways, scope: scope)
        // A gateway route's name is its gateway's to keep apart.
        checkNames(resources.gatewayRoutes) { route in
            let gateways = resources.gateways(of: route)
            return gateways.count == 1 ? gateways[0].key.qualified : nil
        }
    }

    private mutating func checkNames<Value: MeshNamed>(_ table: ResourceTable<Value>, scope: (Value) -> String?) {
        var first: [[String]: ResourceKey] = [:]
        for value in table {
            guard let scope = scope(value) else { continue }
            // Hosts are compared without case.
            let name = Value.kind == .virtualService ? value.meshName.lowercased() : value.meshName
            if let other = first[[scope, name]] {
                let path = value.awsName == nil ? FieldPath() / "metadata" / "name" : .spec / "awsName"
                error(
                    value.key, path,
                    .message("the mesh name \"\(value.meshName)\" is already that of \(other.qualified)\(place(of: other))"))
            } else {
                first[[scope, name]] = value.key
            }
        }
    }
}

extension MeshResources {
    /// The VirtualGateways that a GatewayRoute belongs to: one, if all is well.
    public func gateways(of route: GatewayRoute) -> [VirtualGateway] {
        let labels = labels(ofNamespace: route.meta.namespace)
        let mesh = membership(ofNamespace: route.meta.namespace).mesh
        return virtualGateways.filter { gateway in
            gateway.namespaceSelector?.matches(labels) ?? false
                && gateway.gatewayRouteSelector?.matches(route.meta.labels) ?? true
                && membership(ofNamespace: gateway.meta.namespace).mesh?.key == mesh?.key
        }
    }
}
