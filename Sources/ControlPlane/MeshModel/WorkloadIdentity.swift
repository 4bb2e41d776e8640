extension MeshResources {
    /// What the certificates of a node's or gateway's proxies call them: `spiffe://MESH/ns/NAMESPACE/vn/NODE`, of a gateway `/vg/`.
    ///
    /// The node itself need not exist.
    ///
    /// - Returns: nil for other kinds, for a namespace in no mesh, and where a name has letters that no SPIFFE ID may have.
    public func identity(of key: ResourceKey) -> String? {
        let kinds: [ResourceKind: String] = [.virtualNode: "vn", .virtualGateway: "vg"]
        guard let kind = kinds[key.kind], let namespace = key.namespace, let mesh = membership(ofNamespace: namespace).mesh else {
            return nil
        }
        let parts = [mesh.meshName, namespace, key.name]
        // SPIFFE-ID, sections 2.1 and 2.2. Kubernetes' names are fine; `awsName` may be anything.
        let isPlain = parts.allSatisfy { part in
            !part.isEmpty && part != "." && part != ".."
                && part.utf8.allSatisfy {
                    (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0)
                        || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
                        || [UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_")].contains($0)
                }
        }
        return isPlain ? "spiffe://\(parts[0])/ns/\(parts[1])/\(kind)/\(parts[2])" : nil
    }
}
