import Base

extension MeshChecker {
    mutating func checkMeshPolicies() {
        var first: [String: ResourceKey] = [:]
        for policy in resources.meshPolicies {
            let path = .spec / "meshRef" / "name"
            let mesh = ResourceKey(kind: .mesh, namespace: nil, name: policy.mesh)
            // Where no Mesh exists there is one all the same.
            let isImplicit = resources.meshes.isEmpty && policy.mesh == Mesh.implicit.meta.name
            if !exists(mesh), !isImplicit { warn(policy.key, path, "unresolved reference: \(mesh.qualified) is in none of the files") }
            if let other = first[policy.mesh] {
                error(policy.key, path, .message("\(mesh.qualified) has the policy \(other.name) already\(place(of: other))"))
            } else {
                first[policy.mesh] = policy.key
            }
            checkExceptions(of: policy)
        }
    }

    private mutating func checkExceptions(of policy: MeshPolicy) {
        var seen: Set<ResourceKey> = []
        for (index, exception) in policy.exceptions.enumerated() {
            let path = (.spec / "mtls" / "exceptions")[index] / "virtualNodeRef"
            let node = exception.virtualNode.key(.virtualNode, from: policy.meta)
            if !seen.insert(node).inserted {
                error(policy.key, path, .message("\(node.qualified) is named before; one mode holds for it"))
            } else if !exists(node) {
                warn(policy.key, path, "unresolved reference: \(node.qualified) is in none of the files")
            }
        }
    }
}
