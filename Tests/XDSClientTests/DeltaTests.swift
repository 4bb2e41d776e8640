import Base
import ProxyConfig
import Testing
import XDSClient
import XDSWire

@Suite("By delta")
struct DeltaTests {
    private var harness = Harness()
    private var nonces = 0

    init() {
        harness.perform(harness.client.streamOpened(.delta, now: harness.now))
    }

    @discardableResult
    private mutating func send(
        _ type: DiscoveredType, _ resources: [EncodedResource] = [], removed: [String] = [], spoilt: Bool = false
    ) -> String {
        nonces += 1
        var resources = resources
        // A string field of length 2 with one byte behind it.
        if spoilt {
            let message = AnyMessage(typeURL: type.typeURL, value: [0x0a, 2, 0x61])
            resources.append(EncodedResource(name: "spoilt", version: "1", message: message))
        }
        let response = DeltaDiscoveryResponse(
            systemVersion: "v\(nonces)", resources: resources, typeURL: type.typeURL, removed: removed, nonce: "n\(nonces)")
        harness.perform(harness.client.receive(response.encoded(), now: harness.now))
        return response.nonce
    }

    /// What was sent since the last look: `Cluster +a -b {a:1} ACK n1`.
    private mutating func words() -> [String] {
        defer { harness.sentDelta = [] }
        return harness.sentDelta.map { request in
            var words = [DiscoveredType(typeURL: request.typeURL)?.name ?? request.typeURL]
            words += request.subscribe.map { "+\($0)" } + request.unsubscribe.map { "-\($0)" }
            if !request.initialVersions.isEmpty {
                let held = request.initialVersions.sorted { $0.key < $1.key }.map { "\($0.key):\($0.value.isEmpty ? "?" : "held")" }
                words.append("{\(held.joined(separator: " "))}")
            }
            if !request.responseNonce.isEmpty { words.append("\(request.errorDetail == nil ? "ACK" : "NACK") \(request.responseNonce)") }
            return words.joined(separator: " ")
        }
    }

    /// Listener `l` routes by `r` to cluster `c`.
    private mutating func start() {
        send(.cluster, [EncodedResource(Mesh.cluster("c"))])
        send(.clusterLoadAssignment, [EncodedResource(Mesh.endpoints("c", 1))])
        send(.listener, [EncodedResource(Mesh.listener("l", 80, routes: "r"))])
        send(.routeConfiguration, [EncodedResource(Mesh.routes("r", to: "c"))])
    }

    @Test("Types are asked for whole or by the names that are needed, and every response is answered")
    mutating func conversation() {
        #expect(words() == ["NodeSettings", "Cluster", "Listener"])
        send(.cluster, [EncodedResource(Mesh.cluster("c"))])
        #expect(words() == ["ClusterLoadAssignment +c", "Cluster ACK n1"])
        send(.clusterLoadAssignment, [EncodedResource(Mesh.endpoints("c", 1))])
        send(.listener, [EncodedResource(Mesh.listener("l", 80, routes: "r"))])
        #expect(words() == ["ClusterLoadAssignment ACK n2", "RouteConfiguration +r", "Listener ACK n3"])
        #expect(harness.running == nil)
        send(.routeConfiguration, [EncodedResource(Mesh.routes("r", to: "c"))])
        #expect(words() == ["RouteConfiguration ACK n4"])
        #expect(harness.running?.clusters.map(\.name) == ["c"] && harness.client.isSettled)

        // Only what is new comes, and stands where its name belongs.
        send(.cluster, [EncodedResource(Mesh.cluster("b"))])
        send(.clusterLoadAssignment, [EncodedResource(Mesh.endpoints("b", 2))])
        #expect(words() == ["ClusterLoadAssignment +b", "Cluster ACK n5", "ClusterLoadAssignment ACK n6"])
        #expect(harness.running?.clusters.map(\.name) == ["b", "c"])
        send(.cluster, removed: ["b"])
        #expect(harness.running?.clusters.map(\.name) == ["c"] && harness.running?.loadAssignments.map(\.clusterName) == ["c"])
        #expect(words() == ["Cluster ACK n7", "ClusterLoadAssignment -b"])
    }

    @Test("A response that cannot be read is refused by itself, and what ran goes on")
    mutating func unreadable() {
        start()
        _ = words()
        let before = harness.running
        send(.cluster, [EncodedResource(Mesh.cluster("b"))], spoilt: true)
        #expect(words() == ["Cluster NACK n5"])
        #expect(harness.running == before && harness.refusals.count == 1 && !harness.client.isSettled)
        send(.clusterLoadAssignment, [EncodedResource(Mesh.endpoints("c", 9))])
        #expect(words() == ["ClusterLoadAssignment ACK n6"] && harness.running?.loadAssignments == [Mesh.endpoints("c", 9)])
        send(.cluster, [EncodedResource(Mesh.cluster("c"))])
        #expect(words() == ["Cluster ACK n7"] && harness.client.isSettled)
    }

    @Test("What the owner refuses is refused with all its responses, what was accepted too early is taken back")
    mutating func refused() {
        start()
        _ = words()
        harness.judge = { offer in
            offer.snapshot.clusters.contains { $0.name == "bad" } ? [ADSClient.Problem(type: .cluster, text: "Cluster/bad: no")] : []
        }
        let before = harness.running
        send(.cluster, [EncodedResource(Mesh.cluster("bad"))])
        #expect(words() == ["ClusterLoadAssignment +bad", "Cluster ACK n5"])
        send(.clusterLoadAssignment, [EncodedResource(Mesh.endpoints("bad", 1))])
        #expect(words() == ["Cluster NACK n5", "ClusterLoadAssignment ACK n6"] && harness.running == before)
        send(.cluster, removed: ["bad"])
        #expect(harness.client.isSettled && harness.running == before)
    }

    @Test("While the owner is busy nothing is answered; then everything is")
    mutating func busy() {
        start()
        _ = words()
        harness.isBusy = true
        for port in 5...7 as ClosedRange<UInt16> { send(.clusterLoadAssignment, [EncodedResource(Mesh.endpoints("c", port))]) }
        #expect(words() == [])
        harness.isBusy = false
        harness.answerOffer()
        #expect(Set(words()) == Set((5...7).map { "ClusterLoadAssignment ACK n\($0)" }))
        #expect(harness.running?.loadAssignments == [Mesh.endpoints("c", 7)])
    }

    @Test("On the next stream it tells what it holds; settings and listeners come anew, so that silence means something")
    mutating func reconnect() {
        start()
        harness.close()
        _ = words()
        harness.perform(harness.client.streamOpened(.delta, now: harness.now))
        #expect(
            words() == [
                "NodeSettings", "Cluster {c:held}", "ClusterLoadAssignment +c {c:held}", "Listener {l:?}",
                "RouteConfiguration +r {r:held}",
            ])
        let before = harness.running
        send(.listener, [EncodedResource(Mesh.listener("l", 80, routes: "r"))])
        #expect(words() == ["Listener ACK n5"] && harness.running == before && harness.client.isSettled)

        // A control plane of another kind.
        harness.close()
        harness.perform(harness.client.streamOpened(.stateOfTheWorld, now: harness.now))
        #expect(harness.takeSent().allSatisfy { $0.versionInfo.isEmpty } && harness.sentDelta.isEmpty)
        harness.send([Mesh.cluster("c")])
        #expect(harness.running == before && harness.client.isSettled)
        harness.close()
        harness.perform(harness.client.streamOpened(.delta, now: harness.now))
        #expect(words().contains("Cluster {c:?}"))
    }

    @Test("What is said not to exist is not waited for, and comes when it does")
    mutating func absent() {
        send(.cluster, [EncodedResource(Mesh.cluster("c"))])
        send(.listener, [EncodedResource(Mesh.listener("l", 80, routes: "r"))])
        send(.routeConfiguration, [EncodedResource(Mesh.routes("r", to: "c"))])
        #expect(harness.running == nil)
        send(.clusterLoadAssignment, removed: ["c", "nobody"])
        #expect(harness.running?.loadAssignments == [ClusterLoadAssignment(clusterName: "c", localities: [])])
        send(.clusterLoadAssignment, [EncodedResource(Mesh.endpoints("c", 1))])
        #expect(harness.running?.loadAssignments == [Mesh.endpoints("c", 1)])
        // While the cluster is there its endpoints stay, whatever overtakes what.
        send(.clusterLoadAssignment, removed: ["c"])
        #expect(harness.running?.loadAssignments == [Mesh.endpoints("c", 1)])
    }

    @Test("A control plane that sends on and on without an answer is left")
    mutating func flood() {
        start()
        harness.isBusy = true
        for _ in 0..<1100 where harness.ends.isEmpty { send(.clusterLoadAssignment, [EncodedResource(Mesh.endpoints("c", 2))]) }
        #expect(harness.ends.count == 1)
    }
}
