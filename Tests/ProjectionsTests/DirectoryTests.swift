import EventStore
import Foundation
import Testing

@testable import Projections

@Suite("Read models of nodes, rollouts, certificates and tokens")
struct DirectoryTests {
    static let cart = Texts.nodeKey("cart")
    static func key(_ instance: String) -> InstanceKey { InstanceKey(node: cart, instance: instance) }

    static func registered(_ instance: String, address: String = "10.0.0.1") -> MeshEvent {
        .nodeRegistered(NodeRegistration(instance: instance, node: cart, address: address, ports: [8080]))
    }

    @Test("an instance is an endpoint from ready to its end, and draining in between")
    func endpoints() throws {
        var shop = Workshop()
        func seen() -> [String] {
            shop.models.endpoints.endpoints(of: Self.cart).map { "\($0.instance) \($0.address)\($0.isDraining ? " draining" : "")" }
        }
        try shop.record(Self.registered("a"), Self.registered("b", address: "10.0.0.2"))
        #expect(seen() == [])
        #expect(shop.models.endpoints.generation == 0)
        try shop.record(.nodeReady(InstanceChange(instance: Self.key("b"))), .nodeReady(InstanceChange(instance: Self.key("a"))))
        #expect(seen() == ["a 10.0.0.1", "b 10.0.0.2"])
        let generation = shop.models.endpoints.generation
        // Back after a short loss of the stream, as it was.
        try shop.record(Self.registered("a"), .nodeReady(InstanceChange(instance: Self.key("a"))))
        #expect(shop.models.endpoints.generation == generation)
        #expect(shop.models.nodes.instances[Self.key("a")]?.state == .ready)
        try shop.record(.nodeDraining(InstanceChange(instance: Self.key("a"))))
        #expect(seen() == ["a 10.0.0.1 draining", "b 10.0.0.2"])
        try shop.record(.nodeLeft(InstanceChange(instance: Self.key("a"))), Self.registered("b", address: "10.0.0.3"))
        #expect(seen() == [])
        #expect(shop.models.endpoints.generation > generation)
        try shop.record(.nodeReady(InstanceChange(instance: Self.key("b"))))
        #expect(seen() == ["b 10.0.0.3"])
        #expect(shop.models.endpoints.nodesWithEndpoints == [Self.cart])
    }

    @Test("the directory tells which snapshot each instance wants, took, runs and refused")
    func versions() throws {
        var shop = Workshop()
        func change(_ version: String, _ reason: String = "") -> SnapshotChange {
            SnapshotChange(instance: Self.key("a"), version: version, reason: reason)
        }
        try shop.record(Self.registered("a"), time: 1000)
        try shop.record(.snapshotWanted(change("1")), .snapshotAcknowledged(change("1")), .snapshotApplied(change("1")), time: 2000)
        try shop.record(.snapshotWanted(change("2")), .snapshotRefused(change("2", "clusters[0]: expected ...")), time: 3000)
        var instance = try #require(shop.models.nodes.instances(of: Self.cart).first)
        #expect(instance.wanted == "2" && instance.acknowledged == "1" && instance.applied == "1")
        #expect(instance.refused?.version == "2" && instance.refused?.reason == "clusters[0]: expected ...")
        #expect(instance.appliedAt?.milliseconds == 2000 && instance.lastSeen.milliseconds == 3000 && instance.since.milliseconds == 1000)
        try shop.record(.snapshotAcknowledged(change("3")))
        instance = try #require(shop.models.nodes.instances[Self.key("a")])
        #expect(instance.refused == nil)
        // Of whom nobody knows, nothing is kept.
        try shop.record(.nodeReady(InstanceChange(instance: Self.key("ghost"))))
        #expect(shop.models.nodes.instances.count == 1)
    }

    @Test("of instances that left, the last 1,000 are known")
    func left() throws {
        var chain = Chain()
        var nodes = NodeDirectory()
        for number in 0..<1005 {
            for event in [Self.registered("\(number)"), .nodeLeft(InstanceChange(instance: Self.key("\(number)")))] {
                try nodes.apply(chain.append([event])[0])
            }
        }
        #expect(nodes.instances.count == 1000)
        #expect(nodes.instances[Self.key("4")] == nil && nodes.instances[Self.key("5")]?.state == .left)
    }

    @Test("a rollout ends once, and a revision may be rolled out again")
    func rollouts() throws {
        var shop = Workshop()
        let start = RolloutStart(revision: 2, previous: 1, stages: ["canary=1", "100%"], pauseMilliseconds: 30_000)
        try shop.record(.rolloutStarted(start), time: 1000)
        try shop.record(.rolloutStageStarted(RolloutStage(revision: 2, stage: 0, instances: [Self.key("a")])), time: 2000)
        try shop.record(.rolloutStageCompleted(RolloutStage(revision: 2, stage: 0)), time: 3000)
        #expect(shop.models.rollouts.running.first?.stages.map(\.completed?.milliseconds) == [3000, nil])
        try shop.record(.rolloutCompensated(RolloutEnd(revision: 2, reason: "5xx")), .rolloutCompleted(RolloutEnd(revision: 2)))
        #expect(shop.models.rollouts.rollouts.map(\.state) == [.compensated])
        try shop.record(.rolloutStarted(start), .rolloutStopped(RolloutEnd(revision: 2)))
        #expect(shop.models.rollouts.rollouts.map(\.state) == [.compensated, .stopped])
        #expect(shop.models.rollouts.running.isEmpty)
    }

    @Test("a token holds until it ends, is revoked, or was used to join")
    func tokens() throws {
        var shop = Workshop()
        func now(_ seconds: Int64) -> UnixTime { UnixTime(milliseconds: seconds * 1000) }
        func refusal(_ hash: String, _ time: Int64) -> TokenTable.Refusal? {
            if case .failure(let problem) = shop.models.tokens.check(hash: hash, now: now(time)) { problem.refusal } else { nil }
        }
        try shop.record(
            .tokenCreated(TokenCreation(id: "1", hash: "aa", role: "join", node: Self.cart, expiry: now(100))),
            .tokenCreated(TokenCreation(id: "2", hash: "bb", role: "admin")), time: 1000)
        #expect(refusal("aa", 50) == nil && refusal("aa", 100) == .expired && refusal("cc", 50) == .unknown)
        try shop.record(.tokenUsed(TokenChange(id: "1", instance: Self.key("a"))), .tokenUsed(TokenChange(id: "2")), time: 2000)
        #expect(refusal("aa", 50) == .used && refusal("bb", 50) == nil)
        #expect(shop.models.tokens.tokens["1"]?.usedBy == Self.key("a"))
        try shop.record(.tokenRevoked(TokenChange(id: "2")), time: 3000)
        #expect(refusal("bb", 50) == .revoked)
        // A month later nothing is left of them.
        try shop.record(.tokenCreated(TokenCreation(id: "3", hash: "dd", role: "read")), time: 40 * 86_400_000)
        #expect(Set(shop.models.tokens.tokens.keys) == ["3"])
        #expect(refusal("aa", 50) == .unknown)
    }

    @Test("certificates are known until they end, authorities as long as they hold or sign")
    func certificates() throws {
        var shop = Workshop()
        func hours(_ hours: Int64) -> UnixTime { UnixTime(milliseconds: hours * 3_600_000) }
        func issue(_ serial: String, _ end: Int64) -> MeshEvent {
            .certificateIssued(
                IssuedCertificate(
                    serial: serial, instance: Self.key("a"), identity: "spiffe://demo/ns/shop/vn/cart", notBefore: hours(0),
                    notAfter: hours(end), authority: "one"))
        }
        try shop.record(.authorityCreated(AuthorityChange(authority: "one", certificatePEM: "1", notAfter: hours(30))), time: 1)
        try shop.record(issue("1", 24), issue("2", 36), time: 2)
        #expect(shop.models.certificates.certificate(of: Self.key("a"))?.serial == "2")
        try shop.record(
            .authorityRotated(AuthorityChange(authority: "two", certificatePEM: "2", notAfter: hours(900))), time: hours(25).milliseconds)
        #expect(shop.models.certificates.certificates.keys.sorted() == ["2"])
        #expect(shop.models.certificates.authorities.map(\.id) == ["one", "two"])
        try shop.record(issue("3", 50), time: hours(40).milliseconds)
        #expect(shop.models.certificates.authorities.map(\.id) == ["two"])
        #expect(shop.models.certificates.certificates.keys.sorted() == ["3"])
    }
}

@Suite("Differences")
struct DifferenceTests {
    @Test(
        "of texts are as diff writes them",
        arguments: [
            ("a\nb\nc\n", "a\nb\nc\n", ""),
            ("a\nb\nc\n", "a\nX\nc\n", "@@ -1,3 +1,3 @@\n a\n-b\n+X\n c\n"),
            ("", "a\nb\n", "@@ -0,0 +1,2 @@\n+a\n+b\n"),
            ("a\n", "", "@@ -1 +0,0 @@\n-a\n"),
            (
                "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n", "X\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\nY\n",
                "@@ -1,4 +1,4 @@\n-1\n+X\n 2\n 3\n 4\n@@ -9,4 +9,4 @@\n 9\n 10\n 11\n-12\n+Y\n"
            ),
            (
                "1\n2\n3\n4\n5\n6\n7\n8\n", "X\n2\n3\n4\n5\n6\n7\nY\n",
                "@@ -1,8 +1,8 @@\n-1\n+X\n 2\n 3\n 4\n 5\n 6\n 7\n-8\n+Y\n"
            ),
            ("a\nb\nc\nd\ne\nf\n", "a\nb\nc\nd\ne\nf\ng\n", "@@ -4,3 +4,4 @@\n d\n e\n f\n+g\n"),
        ])
    func unified(before: String, after: String, expected: String) {
        let head = expected.isEmpty ? "" : "--- old\n+++ new\n"
        #expect(TextDifference.unified(before, after, from: "old", to: "new") == head + expected)
    }

    @Test("of states name each object that changed, with the revisions of its texts")
    func states() throws {
        var shop = Workshop()
        try shop.apply(joined(Texts.mesh, Texts.node("cart"), Texts.node("web")))
        let before = shop.state
        try shop.apply(joined(Texts.node("cart", port: 9090), Texts.node("pay")))
        try shop.run(Command.plan(delete: [Texts.nodeKey("web")], from: shop.state))
        let differences = before.differences(to: shop.state)
        #expect(
            differences.map { "\($0.key) \($0.action)" } == [
                "VirtualNode/shop/cart configured", "VirtualNode/shop/pay created", "VirtualNode/shop/web deleted",
            ])
        #expect(differences[0].text.hasPrefix("--- VirtualNode/shop/cart (revision 1)\n+++ VirtualNode/shop/cart (revision 2)\n@@"))
        #expect(differences[0].text.contains("-    - portMapping: {port: 8080, protocol: http}\n+    - portMapping: {port: 9090"))
        #expect(differences[1].text.hasPrefix("--- /dev/null\n"))
        #expect(shop.state.differences(to: shop.state).isEmpty)
    }

    @Test("what a breaker is forced to holds until its end, or until it is released; the newest word counts")
    func overrides() throws {
        var shop = Workshop()
        func at(_ milliseconds: Int64) -> UnixTime { UnixTime(milliseconds: milliseconds) }
        func forced(_ cluster: String, _ action: String, until: Int64) -> MeshEvent {
            .breakerForced(
                BreakerForce(target: OverrideTable.Key(node: Texts.nodeKey("cart"), cluster: cluster), action: action, until: at(until)))
        }
        func seen(_ now: Int64) -> [String] {
            shop.models.overrides.current(now: at(now)).map { "\($0.key.cluster) \($0.value.forced.action)" }
        }
        try shop.record(forced("a", "open", until: 5000), forced("b", "observe", until: 9000), time: 1000)
        #expect(seen(4999) == ["a open", "b observe"])
        #expect(shop.models.overrides.nextEnd(after: at(1000)) == at(5000))
        #expect(seen(5000) == ["b observe"])
        #expect(shop.models.overrides.nextEnd(after: at(5000)) == at(9000))
        try shop.record(forced("b", "disable", until: 8000), time: 2000)
        #expect(seen(2000) == ["a open", "b disable"])
        try shop.record(.breakerReleased(BreakerRelease(target: OverrideTable.Key(node: Texts.nodeKey("cart"), cluster: "b"))), time: 3000)
        #expect(seen(3000) == ["a open"])
        // What has ended is not kept.
        try shop.record(forced("c", "open", until: 99_000), time: 6000)
        #expect(Array(shop.models.overrides.entries.keys.map(\.cluster)) == ["c"])
        #expect(shop.models.overrides.nextEnd(after: at(99_000)) == nil)
    }
}
