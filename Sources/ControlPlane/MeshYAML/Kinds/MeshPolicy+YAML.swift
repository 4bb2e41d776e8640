import MeshModel

extension MeshPolicy {
    init?(_ meta: ResourceMeta, _ spec: ObjectReader) {
        let mesh = spec.required("meshRef", .object { $0.required("name", .name) })
        var policy = MeshPolicy(meta: meta, mesh: mesh ?? "")
        _ = spec.optional(
            "mtls",
            FieldType<Bool>.object { mtls in
                policy.mutualTLS = mtls.optional("mode", .oneOf(MutualTLS.allCases))
                policy.exceptions = mtls.optional("exceptions", .list(of: .object(Exception.init), count: 1...1000)) ?? []
                return true
            })
        guard mesh != nil else { return nil }
        self = policy
    }
}

extension MeshPolicy.Exception {
    init?(_ object: ObjectReader) {
        let node = object.required(
            "virtualNodeRef",
            FieldType<ObjectReference>.object { reference in
                let name = reference.required("name", .name)
                let namespace = reference.required("namespace", .name)
                return name.flatMap { name in namespace.map { ObjectReference(name: name, namespace: $0) } }
            })
        let mode = object.required("mode", .oneOf(MeshPolicy.MutualTLS.allCases))
        guard let node, let mode else { return nil }
        self.init(virtualNode: node, mode: mode)
    }
}
