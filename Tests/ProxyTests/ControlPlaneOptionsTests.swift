import Base
import ProxyConfig
import TestSupport
import Testing
import XDSWire

@testable import Proxy

@Suite("The command line of a managed proxy")
struct ControlPlaneOptionsTests {
    private func options(_ words: String) throws(UsageError) -> ProxyOptions {
        try ProxyOptions(words.split(separator: " ").map(String.init))
    }

    private func managed(_ words: String) throws -> ControlPlaneOptions {
        try #require(try options("--control-plane 127.0.0.1:15010 " + words).controlPlane)
    }

    @Test("the node is named by name, or by namespace and name; the mesh makes the id that App Mesh's proxies had")
    func node() throws {
        let bare = try managed("--node cart --instance i").node
        #expect(bare.id == "cart" && bare.name == "cart" && bare.mesh == "" && bare.role == .virtualNode && bare.instance == "i")
        let spaced = try managed("--node shop/cart").node
        #expect(spaced.id == "shop/cart" && spaced.namespace == "shop" && spaced.name == "cart")
        #expect(try managed("--node cart --namespace shop").node.id == "shop/cart")
        let full = try managed("--gateway edge --mesh m --address 10.0.0.1 --host-address=127.0.0.2").node
        #expect(full.id == "mesh/m/virtualGateway/edge" && full.address == IPAddress("10.0.0.1") && full.host == IPAddress("127.0.0.2"))
        #expect(!bare.instance.isEmpty && !full.instance.isEmpty)
    }

    @Test("without a mesh the snapshot's node has one that a kept snapshot can be read with")
    func identity() throws {
        let identity = try managed("--node shop/cart").identity
        let kept = try SnapshotFile.decode(SnapshotFile.encode(Snapshot(node: identity)))
        #expect(kept.node == identity && kept.node.id == "shop/cart")
    }

    @Test("a state folder gets one file for each node and instance; a file is taken as it is")
    func state() throws {
        let folder = try TemporaryFolder()
        #expect(try managed("--node shop/cart --instance i1 --state \(folder.path)").statePath == "\(folder.path)/shop_cart_i1.snapshot")
        #expect(try managed("--node cart --instance i1 --state /nowhere/").statePath == "/nowhere/cart_i1.snapshot")
        #expect(try managed("--node cart --state /nowhere/x").statePath == "/nowhere/x")
        #expect(try managed("--node cart").statePath == nil)
    }

    @Test("with a CA it is TLS, by default to the host's name; without, plaintext is for this machine alone")
    func security() throws {
        let tls = try #require(try options("--control-plane cp.local:1 --node n --control-plane-ca ca").controlPlane?.tls)
        #expect(tls.authorities == "ca" && tls.name == "cp.local" && tls.certificate == nil)
        let named = try #require(
            try options(
                "--control-plane 10.0.0.1:1 --node n --control-plane-ca ca --control-plane-name spiffe://m/cp --client-certificate c "
                    + "--client-key k"
            ).controlPlane?.tls)
        #expect(named.name == "spiffe://m/cp" && named.certificate?.chain == "c" && named.certificate?.privateKey == "k")
        #expect(throws: UsageError.self) { try options("--control-plane 10.0.0.1:1 --node n") }
        #expect(try options("--control-plane 10.0.0.1:1 --node n --insecure-control-plane").controlPlane?.tls == nil)
        #expect(try options("--control-plane [::1]:1 --node n").controlPlane?.authority == "[::1]:1")
    }

    @Test(
        "what cannot be meant is refused in a sentence",
        arguments: [
            ("--control-plane nowhere --node n", "HOST:PORT"), ("--control-plane h:0 --node n", "HOST:PORT"),
            ("--control-plane localhost:1", "one of --node NAME and --gateway NAME"),
            ("--control-plane localhost:1 --node a --gateway b", "one of --node"),
            ("--control-plane localhost:1 --node a/b/c", "NAMESPACE/NAME"),
            ("--control-plane localhost:1 --node a/b --namespace c", "--namespace"),
            ("--control-plane localhost:1 --node a --address here", "IP address"),
            ("--control-plane localhost:1 --node a --client-key k", "belong together"),
            ("--control-plane localhost:1 --node a --client-key k --client-certificate c", "--control-plane-ca"),
            ("--control-plane localhost:1 --node a --snapshot f", "found both"), ("--node a", "--node needs --control-plane"),
            ("", "--snapshot FILE"),
        ])
    func refused(words: String, reason: String) {
        do throws(UsageError) {
            _ = try options(words)
            Issue.record("\(words) was taken")
        } catch {
            #expect(error.text.contains(reason), "\(error.text)")
        }
    }
}
