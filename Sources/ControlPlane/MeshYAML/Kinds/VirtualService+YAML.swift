import MeshModel

extension VirtualService {
    init?(_ meta: ResourceMeta, _ spec: ObjectReader) {
        spec.ignored("meshRef", by: "the system")
        self.init(
            meta: meta,
            awsName: spec.optional("awsName", .name),
            provider: spec.optional("provider", .object(Provider.read)))
    }
}

extension VirtualService.Provider {
    static func read(_ object: ObjectReader) -> VirtualService.Provider? {
        object.atMostOne([
            .init("virtualNode", .object { $0.reference("virtualNode").map { .virtualNode($0) } }),
            .init("virtualRouter", .object { $0.reference("virtualRouter").map { .virtualRouter($0) } }),
        ])
    }
}

extension BackendGroup {
    init?(_ meta: ResourceMeta, _ spec: ObjectReader) {
        spec.ignored("meshRef", by: "the system")
        // All lower case, unlike every other field.
        self.init(meta: meta, virtualServices: spec.list("virtualservices", of: .object(ObjectReference.init)))
    }
}
