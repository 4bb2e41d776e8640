import MeshModel

extension Mesh {
    init?(_ meta: ResourceMeta, _ spec: ObjectReader) {
        self.init(
            meta: meta,
            awsName: spec.optional("awsName", .name),
            namespaceSelector: spec.optional("namespaceSelector", .object(LabelSelector.init)),
            egressFilter: spec.optional("egressFilter", .object { $0.required("type", .oneOf(EgressFilter.allCases)) }),
            meshOwner: spec.optional("meshOwner", .text("the 12 digits of an AWS account, in quotes", Self.account)),
            ipPreference: spec.optional("meshServiceDiscovery", .object { $0.optional("ipPreference", .oneOf(IPPreference.allCases)) }))
    }

    private static func account(_ text: String) -> String? {
        text.utf8.count == 12 && text.utf8.allSatisfy { (0x30...0x39).contains($0) } ? text : nil
    }
}
