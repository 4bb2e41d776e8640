/// A mesh of `size` VirtualNodes with a VirtualService each; every node calls the five that follow it in a ring.
struct RingMesh {
    static let backendsOfEach = 5
    static let name = "scale"
    static let namespace = "shop"

    var size: Int

    func node(_ index: Int) -> String { "node-\(index)" }

    /// Who calls a node.
    func callers(of index: Int) -> [Int] { (1...Self.backendsOfEach).map { (index - $0 + size) % size } }

    /// What a caller's cluster for a node is called.
    func cluster(_ index: Int) -> String { "cds_egress_\(Self.name)_\(node(index))_\(Self.namespace)_http_8080" }

    /// Everything. `maxErrors` stands in the clusters of all callers: to change it changes the configuration of each.
    func documents(maxErrors: Int) -> String {
        let mesh = """
            apiVersion: appmesh.k8s.aws/v1beta2
            kind: Mesh
            metadata: {name: \(Self.name)}
            spec: {namespaceSelector: {}}

            """
        let services = (0..<size).map { index in
            """
            apiVersion: appmesh.k8s.aws/v1beta2
            kind: VirtualService
            metadata: {name: \(node(index)), namespace: \(Self.namespace)}
            spec: {provider: {virtualNode: {virtualNodeRef: {name: \(node(index))}}}}

            """
        }
        return ([mesh] + services + (0..<size).map { document($0, maxErrors: maxErrors) }).joined(separator: "---\n")
    }

    func document(_ index: Int, maxErrors: Int) -> String {
        let backends = (1...Self.backendsOfEach).map { step in
            "    - {virtualService: {virtualServiceRef: {name: \(node((index + step) % size))}}}"
        }
        return """
            apiVersion: appmesh.k8s.aws/v1beta2
            kind: VirtualNode
            metadata: {name: \(node(index)), namespace: \(Self.namespace)}
            spec:
              listeners:
                - portMapping: {port: 8080, protocol: http}
                  timeout: {http: {perRequest: {unit: s, value: 15}}}
                  outlierDetection:
                    maxServerErrors: \(maxErrors)
                    interval: {unit: s, value: 10}
                    baseEjectionDuration: {unit: s, value: 30}
                    maxEjectionPercent: 50
              serviceDiscovery: {dns: {hostname: \(node(index)).shop.internal}}
              backends:
            \(backends.joined(separator: "\n"))

            """
    }
}
