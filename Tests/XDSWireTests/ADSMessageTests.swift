import Base
import ProxyConfig
import Testing

@testable import XDSWire

@Suite struct ADSMessageTests {
    @Test("delta requests and responses decode to themselves")
    func delta() throws {
        let request = DeltaDiscoveryRequest(
            node: ClientNode(Node(mesh: "m", role: .virtualGateway, name: "n")), typeURL: "t", subscribe: ["*", "a"], unsubscribe: ["b"],
            initialVersions: ["x": "1", "y": "2"], responseNonce: "7", errorDetail: RPCStatus(code: 3, message: "bad"))
        #expect(try DeltaDiscoveryRequest(decoding: request.encoded()) == request)
        let empty = DeltaDiscoveryRequest(typeURL: "t")
        #expect(try DeltaDiscoveryRequest(decoding: empty.encoded()) == empty)
        let resource = EncodedResource(Cluster(name: "c", discovery: .originalDestination))
        let response = DeltaDiscoveryResponse(
            systemVersion: "s", resources: [resource], typeURL: ResourceType.cluster.typeURL, removed: ["old"], nonce: "1",
            controlPlane: "c")
        #expect(try DeltaDiscoveryResponse(decoding: response.encoded()) == response)
        #expect(try response.decodeResources() == [.cluster(Cluster(name: "c", discovery: .originalDestination).readBack())])
    }

    @Test("a delta response must name its resources truly, each once, and tells the errors of all")
    func deltaErrors() {
        let resource = EncodedResource(Cluster(name: "c", discovery: .originalDestination))
        var renamed = resource
        renamed.name = "d"
        let routes = EncodedResource(RouteConfiguration(name: "r", virtualHosts: []))
        let response = DeltaDiscoveryResponse(
            resources: [resource, resource, renamed, routes], typeURL: ResourceType.cluster.typeURL, removed: ["r"], nonce: "1")
        let error = #expect(throws: WireErrors.self) { try response.decodeResources() }
        #expect(
            error?.description == """
                DeltaDiscoveryResponse resources[1]: expected each Cluster once, found "c" again
                Cluster/d name: expected the name it is sent under, found "c"
                DeltaDiscoveryResponse resources[3]: expected each Cluster once, found "r" again
                Cluster/r type_url: expected \(ResourceType.cluster.typeURL), found \(ResourceType.routeConfiguration.typeURL)
                """)
    }

    @Test("a snapshot is the sum of its encoded resources, in any order")
    func resources() throws {
        for seed in UInt64(0)..<60 {
            let snapshot = RandomSnapshot.make(seed: seed)
            var random = SeededRandom(seed: seed)
            var decoded: [DecodedResource] = []
            for (type, resources) in snapshot.encodedResources() {
                for resource in resources { decoded.append(try resource.decode(type)) }
            }
            for index in decoded.indices.reversed() where index > 0 { decoded.swapAt(index, random.below(index + 1)) }
            let put = try Snapshot(node: snapshot.node, process: snapshot.process, resources: decoded)
            #expect(put.sortedByName() == snapshot.sortedByName(), "seed \(seed)")
        }
    }

    @Test("equal resources have equal versions, others differ")
    func versions() {
        let cluster = Cluster(name: "c", discovery: .originalDestination)
        var other = cluster
        other.connectTimeout = .seconds(2)
        #expect(EncodedResource(cluster) == EncodedResource(cluster))
        #expect(EncodedResource(cluster).version != EncodedResource(other).version)
    }

    @Test("every reference that can be missing is told")
    func references() throws {
        let snapshot = Snapshot.example(certificates: "/c")
        let all = snapshot.encodedResources().flatMap { type, resources in resources.map { ResourceKey(type, $0.name) } }
        for key in all where key.type != .listener && key.name != "any" {
            let rest = try snapshot.encodedResources().flatMap { type, resources in
                try resources.filter { ResourceKey(type, $0.name) != key }.map { try $0.decode(type) }
            }
            let isNeeded = rest.contains { $0.references.contains(key) }
            do {
                _ = try Snapshot(node: snapshot.node, resources: rest)
                #expect(!isNeeded, "\(key)")
            } catch {
                #expect(isNeeded && error.description.contains("\"\(key.name)\""), "\(key): \(error)")
            }
        }
    }

    @Test("an API listener decodes to itself, and a proxy refuses it")
    func apiListener() throws {
        let listener = APIListener(name: "echo.example:80", routeConfigurationName: "echo")
        #expect(try APIListener(decoding: listener.encoded()) == listener)
        #expect(throws: WireErrors.self) { try DecodedResource(.listener, listener.encoded()) }
        let bound = Listener(name: "l", address: SocketAddress(.anyV4, 80), direction: .inbound, filterChains: [])
        #expect(throws: WireErrors.self) { try APIListener(decoding: bound.encoded()) }
    }
}

@Suite struct SecretTests {
    @Test("what is no certificate and no trust, or lies elsewhere, is refused with its place")
    func refused() {
        func secret(_ write: (inout MessageWriter<Secret.Fields>) -> Void) -> String {
            let bytes = message(Secret.Fields.self) {
                $0.string(.name, "s")
                write(&$0)
            }
            do throws(WireErrors) {
                _ = try DecodedResource(.secret, bytes)
                return "nothing"
            } catch {
                return error.description
            }
        }
        #expect(secret { _ in } == "Secret/s: expected a tls_certificate or a validation_context, found nothing")
        #expect(
            secret { $0.emptyMessage(.generic_secret) }
                == "Secret/s: expected a tls_certificate or a validation_context, found generic_secret")
        #expect(
            secret { $0.message(.tls_certificate, TLSCertificateField.self) { _ in } } == """
                Secret/s tls_certificate.certificate_chain: expected a value, found nothing
                Secret/s tls_certificate.private_key: expected a value, found nothing
                """)
        #expect(
            secret {
                $0.message(.validation_context, ValidationContextField.self) {
                    $0.message(.trusted_ca, DataSourceField.self) { $0.chosenString(.filename, "/etc/passwd") }
                }
            } == """
                Secret/s validation_context.trusted_ca.filename: expected nothing: Outrigger does not support it, found a value
                Secret/s validation_context.trusted_ca.inline_bytes: expected a value, found nothing
                """)
    }

    @Test("inline_string does for inline_bytes")
    func inlineString() throws {
        let bytes = message(Secret.Fields.self) {
            $0.string(.name, "s")
            $0.message(.validation_context, ValidationContextField.self) {
                $0.message(.trusted_ca, DataSourceField.self) { $0.chosenString(.inline_string, "pem") }
            }
        }
        let expected = Secret(name: "s", content: .trust(authorities: Array("pem".utf8), subjectAlternativeNames: []))
        #expect(try DecodedResource(.secret, bytes) == .secret(expected))
    }

    @Test("a secret that is printed shows no key")
    func printed() {
        let secret = Secret(name: "own", content: .certificate(chain: [222], privateKey: [231, 232]))
        var dumped = ""
        dump(Snapshot(node: Node(mesh: "m", role: .virtualNode, name: "n"), secrets: [secret]), to: &dumped)
        for text in ["\(secret)", String(reflecting: secret), "\(secret.content)", "\([secret])", dumped] {
            #expect(!text.contains("231") && !text.contains("222"), "\(text)")
        }
    }
}

@Suite struct ClientNodeTests {
    @Test("a node decodes to itself")
    func roundTrip() throws {
        let full = ClientNode(
            Node(mesh: "shop", role: .virtualGateway, name: "edge", locality: Locality(zone: "a")), namespace: "web", instance: "edge-1",
            address: IPAddress("fd00::1"), host: IPAddress("127.0.0.7"), userAgentVersion: "1.0")
        for node in [full, ClientNode(name: "cart"), ClientNode(name: "cart", namespace: "web", instance: "i")] {
            #expect(try Self.decode(wireBytes(node)) == node)
        }
        #expect(full.node == Node(mesh: "shop", role: .virtualGateway, name: "edge", locality: Locality(zone: "a")))
        #expect(ClientNode(name: "cart").node == nil)
        #expect(full.program == .outrigger)
    }

    @Test("the node of a snapshot and that of a stream are of one form")
    func snapshotsNode() throws {
        let node = Node(mesh: "shop", role: .virtualNode, name: "cart")
        #expect(try Self.decode(wireBytes(node)).node == node)
        #expect(try decodeMessage(Node.self, wireBytes(ClientNode(node))[...], "Node").value == node)
    }

    @Test(
        "nodes of Envoy and gRPC are known by their ids",
        arguments: [
            ("mesh/shop/virtualNode/cart", ClientNode(Node(mesh: "shop", role: .virtualNode, name: "cart"))),
            ("mesh/shop/virtualGateway/edge", ClientNode(Node(mesh: "shop", role: .virtualGateway, name: "edge"))),
            ("mesh/shop/virtualNode/cart/7", ClientNode(Node(mesh: "shop", role: .virtualNode, name: "cart"), instance: "7")),
            (
                "arn:aws:appmesh:eu-west-1:111122223333:mesh/shop/virtualNode/cart",
                ClientNode(Node(mesh: "shop", role: .virtualNode, name: "cart"))
            ),
            ("mesh/shop/virtualNode", nil), ("mesh/shop/virtualService/cart", nil), ("mesh//virtualNode/cart", nil), ("cart", nil),
            ("", nil),
        ] as [(String, ClientNode?)])
    func ids(id: String, expected: ClientNode?) throws {
        let bytes = message(ClientNode.Fields.self) {
            $0.string(.id, id)
            $0.string(.cluster, "c")
            $0.string(.user_agent_name, "envoy")
            $0.message(.user_agent_build_version, BuildVersionField.self) {
                $0.message(.version, SemanticVersionField.self) {
                    $0.number(.major_number, 1)
                    $0.number(.minor_number, 40)
                }
            }
            $0.strings(.client_features, ["envoy.lb.does_not_support_overprovisioning"])
        }
        guard var expected else {
            #expect(throws: WireErrors.self) { try Self.decode(bytes) }
            return
        }
        expected.id = id
        expected.cluster = "c"
        expected.userAgentName = "envoy"
        expected.userAgentVersion = "1.40.0"
        expected.clientFeatures = ["envoy.lb.does_not_support_overprovisioning"]
        let node = try Self.decode(bytes)
        #expect(node == expected)
        #expect(node.program == .envoy)
    }

    @Test(
        "the user agent tells the program",
        arguments: [("gRPC C-core linux Python", .grpc), ("gRPC Go", .grpc), ("envoy", .envoy), ("istio", .other), ("", .other)]
            as [(String, ClientNode.Program)])
    func programs(name: String, expected: ClientNode.Program) {
        var node = ClientNode(name: "n")
        node.userAgentName = name
        #expect(node.program == expected)
    }

    @Test("metadata that says nonsense is refused")
    func metadata() {
        for (key, value) in [("role", "virtualService"), ("address", "localhost"), ("host", "1.2.3")] {
            let bytes = message(ClientNode.Fields.self) {
                $0.string(.id, "x")
                $0.message(.metadata, StructField.self) {
                    $0.entry(outriggerMetadataKey) {
                        $0.message(.struct_value, StructField.self) {
                            $0.entry("name") { $0.chosenString(.string_value, "n") }
                            $0.entry(key) { $0.chosenString(.string_value, value) }
                        }
                    }
                }
            }
            let error = #expect(throws: WireErrors.self) { try Self.decode(bytes) }
            #expect(error?.description.contains(value) == true)
        }
    }

    private static func decode(_ bytes: [UInt8]) throws(WireErrors) -> ClientNode {
        try decodeMessage(ClientNode.self, bytes[...], "Node").value
    }
}

extension Cluster {
    fileprivate func readBack() throws -> Cluster {
        guard case .cluster(let cluster) = try DecodedResource(.cluster, encoded()) else { return self }
        return cluster
    }
}

extension Snapshot {
    fileprivate func sortedByName() -> Snapshot {
        var copy = self
        copy.listeners.sort { $0.name < $1.name }
        copy.routeConfigurations.sort { $0.name < $1.name }
        copy.clusters.sort { $0.name < $1.name }
        copy.loadAssignments.sort { $0.clusterName < $1.clusterName }
        copy.secrets.sort { $0.name < $1.name }
        return copy
    }
}
