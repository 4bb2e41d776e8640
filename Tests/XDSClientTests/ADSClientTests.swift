import Base
import ProxyConfig
import Testing
import XDSClient
import XDSWire

@Suite("The ADS stream")
struct ADSClientTests {
    /// A client that runs listener `l` → routes `r` → cluster `a`, on an open stream.
    private func running() -> Harness {
        var harness = Harness()
        harness.open()
        harness.send([Mesh.cluster("a")], version: "c1")
        harness.send([Mesh.endpoints("a", 1)], version: "e1")
        harness.send([Mesh.listener("l", 80, routes: "r")], version: "l1")
        harness.send([Mesh.routes("r", to: "a")], version: "r1")
        harness.sent = []
        return harness
    }

    // MARK: From nothing to a snapshot

    @Test("the first request carries the node, the others do not; clusters, listeners and settings are asked for whole")
    func firstRequests() {
        var harness = Harness()
        harness.open()
        let requests = harness.takeSent()
        #expect(requests.map(\.words) == ["NodeSettings", "Cluster", "Listener"])
        #expect(requests.map { $0.node?.instance } == ["a", nil, nil])
    }

    @Test("names are asked for when something refers to them, and each response is answered when it is clear what it comes to")
    func subscriptions() {
        var harness = Harness()
        harness.open()
        harness.sent = []
        harness.send([Mesh.cluster("a"), Mesh.cluster("b")], version: "c1")
        #expect(harness.takeSent().map(\.words) == ["ClusterLoadAssignment [a b]", "Cluster ACK c1 n1"])
        harness.send([Mesh.endpoints("a", 1), Mesh.endpoints("b", 2)], version: "e1")
        #expect(harness.takeSent().map(\.words) == ["ClusterLoadAssignment ACK e1 n2 [a b]"])
        harness.send([Mesh.listener("l", 80, routes: "r")], version: "l1")
        #expect(harness.takeSent().map(\.words) == ["RouteConfiguration [r]", "Listener ACK l1 n3"])
        #expect(harness.running == nil)
        harness.send([Mesh.routes("r", to: "a")], version: "r1")
        #expect(harness.takeSent().map(\.words) == ["RouteConfiguration ACK r1 n4 [r]"])
        let expected = Snapshot(
            node: Harness.node, listeners: [Mesh.listener("l", 80, routes: "r")], routeConfigurations: [Mesh.routes("r", to: "a")],
            clusters: [Mesh.cluster("a"), Mesh.cluster("b")], loadAssignments: [Mesh.endpoints("a", 1), Mesh.endpoints("b", 2)])
        #expect(harness.running == expected)
    }

    @Test("the order in which types come does not matter", arguments: 0..<24)
    func anyOrder(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var harness = Harness()
        harness.open()
        var steps: [(inout Harness) -> Void] = [
            { $0.send([Mesh.cluster("a")]) }, { $0.send([Mesh.listener("l", 80, routes: "r")]) },
        ]
        steps.shuffle(using: &random)
        for step in steps { step(&harness) }
        var later: [(inout Harness) -> Void] = [{ $0.send([Mesh.endpoints("a", 1)]) }, { $0.send([Mesh.routes("r", to: "a")]) }]
        later.shuffle(using: &random)
        for step in later {
            #expect(harness.running == nil)
            step(&harness)
        }
        #expect(harness.running?.clusters.count == 1 && harness.running?.listeners.count == 1)
        #expect(harness.history.count == 1)
    }

    @Test("settings of the node become the snapshot's; without them what the proxy was started with holds")
    func nodeSettings() {
        var harness = running()
        #expect(harness.running?.process == ProcessSettings())
        let settings = ProcessSettings(adminAddress: SocketAddress(.loopbackV4, 9999), drainTime: .seconds(7))
        let node = Node(mesh: "named", role: .virtualGateway, name: "edge")
        let message = AnyMessage(typeURL: NodeSettings.typeURL, value: NodeSettings(node: node, process: settings).encoded())
        harness.receive(DiscoveryResponse(versionInfo: "p1", resources: [message], typeURL: NodeSettings.typeURL, nonce: "s"))
        #expect(harness.running?.process == settings && harness.running?.node == node)
        #expect(harness.takeSent().map(\.words) == ["NodeSettings ACK p1 s"])
        // None of them any more.
        harness.receive(DiscoveryResponse(versionInfo: "p2", resources: [], typeURL: NodeSettings.typeURL, nonce: "t"))
        #expect(harness.running?.process == ProcessSettings() && harness.running?.node == Harness.node)
    }

    @Test("a secret that the owner has himself is neither asked for nor waited for")
    func ownSecrets() {
        var harness = Harness(ownSecrets: ["mine"])
        harness.open()
        _ = harness.takeSent()
        harness.send([Mesh.cluster("a", secret: "mine")])
        harness.send([Listener]())
        #expect(!harness.takeSent().contains { $0.words.hasPrefix("Secret") })
        harness.send([ClusterLoadAssignment(clusterName: "a", localities: [])])
        #expect(harness.running?.clusters == [Mesh.cluster("a", secret: "mine")])
        #expect(harness.running?.secrets == [])
    }

    @Test("secrets are asked for by the names in clusters and listeners, and waited for")
    func secrets() {
        var harness = Harness()
        harness.open()
        harness.sent = []
        harness.send([Mesh.cluster("a", secret: "bundle")])
        #expect(harness.takeSent().map(\.words).contains("Secret [bundle]"))
        harness.send([Mesh.endpoints("a", 1)])
        harness.send([Listener]())
        #expect(harness.running == nil)
        harness.send([Mesh.trust("bundle")])
        #expect(harness.running?.secrets == [Mesh.trust("bundle")])
        harness.send([Mesh.trust("bundle", "newer")])
        #expect(harness.running?.secrets == [Mesh.trust("bundle", "newer")])
        #expect(harness.running?.clusters == [Mesh.cluster("a", secret: "bundle")])
    }

    // MARK: Changes

    @Test("a change of endpoints alone gives a snapshot in which only they are others")
    func endpointsOnly() {
        var harness = running()
        let before = harness.running!
        harness.send([Mesh.endpoints("a", 1, 2)], version: "e2")
        var expected = before
        expected.loadAssignments = [Mesh.endpoints("a", 1, 2)]
        #expect(harness.running == expected)
        #expect(harness.takeSent().map(\.words) == ["ClusterLoadAssignment ACK e2 n5 [a]"])
    }

    @Test("the same content again is acknowledged and changes nothing, under the same version or another")
    func sameAgain() {
        var harness = running()
        harness.send([Mesh.cluster("a")], version: "c1")
        harness.send([Mesh.cluster("a")], version: "c2")
        #expect(harness.takeSent().map(\.words) == ["Cluster ACK c1 n5", "Cluster ACK c2 n6"])
        #expect(harness.history.count == 1)
    }

    @Test("a route that moves to a new cluster waits for it and for its endpoints; until then the old one serves")
    func makeBeforeBreak() {
        var harness = running()
        let before = harness.running
        // In the worst order: the route first, then the clusters without the old one, then the endpoints.
        harness.send([Mesh.routes("r", to: "b")], version: "r2")
        #expect(harness.takeSent().map(\.words) == ["RouteConfiguration ACK r2 n5 [r]"])
        harness.send([Mesh.cluster("b")], version: "c2")
        #expect(harness.takeSent().map(\.words) == ["ClusterLoadAssignment ACK e1 n2 [a b]", "Cluster ACK c2 n6"])
        #expect(harness.running == before)
        harness.send([Mesh.endpoints("b", 2)], version: "e2")
        #expect(harness.running?.clusters == [Mesh.cluster("b")] && harness.running?.loadAssignments == [Mesh.endpoints("b", 2)])
        // Nothing refers to `a` any more.
        #expect(harness.takeSent().map(\.words) == ["ClusterLoadAssignment ACK e2 n7 [a b]", "ClusterLoadAssignment ACK e2 n7 [b]"])
    }

    @Test("partial responses of named types change what they name; absence means nothing")
    func partialResponses() {
        var harness = running()
        harness.send([Mesh.cluster("a"), Mesh.cluster("b")])
        harness.send([Mesh.endpoints("b", 2)])
        #expect(harness.running?.loadAssignments == [Mesh.endpoints("a", 1), Mesh.endpoints("b", 2)])
        harness.send([ClusterLoadAssignment]())
        #expect(harness.running?.loadAssignments == [Mesh.endpoints("a", 1), Mesh.endpoints("b", 2)])
        harness.send([Mesh.endpoints("a", 9)])
        #expect(harness.running?.loadAssignments == [Mesh.endpoints("a", 9), Mesh.endpoints("b", 2)])
    }

    @Test("what nobody asked for is not kept")
    func unaskedNames() {
        var harness = running()
        harness.send([Mesh.endpoints("a", 1), Mesh.endpoints("stranger", 2)])
        #expect(harness.running?.loadAssignments == [Mesh.endpoints("a", 1)])
        // Asked for later, it must come again.
        harness.send([Mesh.cluster("a"), Mesh.cluster("stranger")])
        #expect(harness.running?.clusters.count == 1)
    }

    /// `running()` with a second listener `m` → routes `s` → cluster `a`.
    private func runningTwo() -> Harness {
        var harness = running()
        harness.send([Mesh.listener("l", 80, routes: "r"), Mesh.listener("m", 81, routes: "s")], version: "l2")
        harness.send([Mesh.routes("s", to: "a")], version: "r2")
        harness.sent = []
        return harness
    }

    @Test("a name that is given up and needed again is left out of the answer to what was sent meanwhile, and asked for anew")
    func givenUpMeanwhile() {
        var harness = runningTwo()
        harness.send([Mesh.listener("l", 80, routes: "r")], version: "l3")
        #expect(harness.takeSent().map(\.words) == ["Listener ACK l3 n7", "RouteConfiguration ACK r2 n6 [r]"])
        harness.send([Mesh.listener("l", 80, routes: "r"), Mesh.listener("m", 81, routes: "s")], version: "l4")
        #expect(harness.takeSent().map(\.words) == ["RouteConfiguration ACK r2 n6 [r s]", "Listener ACK l4 n8"])
        // Sent before either request was read: both are stale, and for all that the control plane knows we hold `s`.
        harness.send([Mesh.routes("r", to: "b")], version: "r3")
        #expect(harness.takeSent().map(\.words) == ["RouteConfiguration ACK r3 n9 [r]", "RouteConfiguration ACK r3 n9 [r s]"])
        // Once is enough: an answer to each answer would be a loop.
        harness.send([Mesh.routes("r", to: "a")], version: "r4")
        #expect(harness.takeSent().map(\.words) == ["RouteConfiguration ACK r4 n10 [r s]"])
        harness.send([Mesh.routes("s", to: "a")], version: "r5")
        #expect(harness.takeSent().map(\.words) == ["RouteConfiguration ACK r5 n11 [r s]"])
        #expect(harness.running?.routeConfigurations.map(\.name) == ["r", "s"])
    }

    @Test("a name that is given up and needed again, and comes, is not asked for anew")
    func givenUpAndCome() {
        var harness = runningTwo()
        harness.send([Mesh.listener("l", 80, routes: "r")], version: "l3")
        harness.send([Mesh.listener("l", 80, routes: "r"), Mesh.listener("m", 81, routes: "s")], version: "l4")
        harness.sent = []
        harness.send([Mesh.routes("s", to: "a")], version: "r3")
        #expect(harness.takeSent().map(\.words) == ["RouteConfiguration ACK r3 n9 [r s]"])
    }

    @Test("a name that is given up and needed again while an answer is owed is left out of that")
    func givenUpUntold() {
        var harness = runningTwo()
        harness.isBusy = true
        harness.send([Mesh.listener("l", 80, routes: "r")], version: "l3")
        harness.send([Mesh.routes("r", to: "a"), Mesh.routes("s", to: "a")].reversed(), version: "r3")
        harness.send([Mesh.endpoints("a", 2)], version: "e3")
        harness.answerOffer()
        // The next offer is out, with which the routes are answered: nothing was said of `s`, and it is forgotten.
        #expect(harness.takeSent().map(\.words) == ["Listener ACK l3 n7"])
        harness.send([Mesh.listener("l", 80, routes: "r"), Mesh.listener("m", 81, routes: "s")], version: "l4")
        let sent = harness.takeSent().map(\.words)
        #expect(sent.suffix(2) == ["RouteConfiguration ACK r3 n8 [r]", "RouteConfiguration ACK r3 n8 [r s]"], "\(sent)")
    }

    @Test("listeners and clusters that are absent from a response are gone")
    func removal() {
        var harness = running()
        harness.send([Listener]())
        #expect(harness.running?.listeners == [] && harness.running?.routeConfigurations == [])
        harness.send([Cluster]())
        #expect(harness.running?.clusters == [] && harness.running?.loadAssignments == [])
    }

    // MARK: References that lead nowhere

    @Test("what does not come is waited for 15 s; then the rest goes on, with no endpoints in its place")
    func missingEndpoints() {
        var harness = running()
        harness.send([Mesh.cluster("a"), Mesh.cluster("b")])
        #expect(harness.client.missing.map(\.description) == ["ClusterLoadAssignment/b"])
        harness.wait(.milliseconds(14_999))
        #expect(harness.running?.clusters.count == 1)
        harness.wait(.milliseconds(1))
        #expect(harness.running?.clusters.count == 2)
        #expect(harness.running?.loadAssignments.last == ClusterLoadAssignment(clusterName: "b", localities: []))
        // What comes late is taken at once, and so is everything else meanwhile.
        harness.send([Mesh.endpoints("a", 5)])
        #expect(harness.running?.loadAssignments.first == Mesh.endpoints("a", 5))
        harness.send([Mesh.endpoints("b", 6)])
        #expect(harness.running?.loadAssignments.last == Mesh.endpoints("b", 6))
    }

    @Test("a listener whose routes do not come answers 404 after 15 s, and a cluster that routes name may be absent")
    func missingRoutes() {
        var harness = running()
        harness.send([Mesh.listener("l", 80, routes: "r"), Mesh.listener("m", 81, routes: "s")])
        harness.wait(.seconds(15))
        #expect(harness.running?.routeConfigurations.last == RouteConfiguration(name: "s", virtualHosts: []))
        harness.send([Mesh.routes("s", to: "nowhere")])
        #expect(harness.running?.routeConfigurations.last == RouteConfiguration(name: "s", virtualHosts: []))
        harness.wait(.seconds(15))
        #expect(harness.running?.routeConfigurations.last == Mesh.routes("s", to: "nowhere"))
    }

    @Test("a stream of new references does not hold back the rest for ever")
    func endlessReferences() {
        var harness = running()
        for number in 0..<5 {
            harness.send([Mesh.cluster("a")] + (0...number).map { Mesh.cluster("new\($0)") })
            #expect(harness.running?.clusters.count == 1)
            harness.wait(.seconds(9))
        }
        #expect(harness.running?.clusters.count == 6)
    }

    @Test("a control plane that has no listeners for us may say so, or stay silent")
    func noListeners() {
        var harness = Harness()
        harness.open()
        harness.send([Mesh.cluster("a")])
        harness.send([Mesh.endpoints("a", 1)])
        #expect(harness.client.missing.map(\.description) == ["every Listener"])
        harness.wait(.seconds(15))
        #expect(harness.running?.clusters.count == 1)
    }

    // MARK: Refusals

    @Test("a bad resource is refused with place, expected and found, by the version that is held; the old goes on, and a good one heals")
    func badResource() {
        var harness = running()
        let before = harness.running
        var bad = DiscoveryResponse([Mesh.cluster("a")])
        // Field 4 (connect_timeout) holds a string that is no message.
        bad.resources[0].value += [0x22, 2, 0xff, 0xff]
        bad.versionInfo = "c2"
        bad.nonce = "bad"
        harness.receive(bad)
        let request = harness.takeSent()
        #expect(request.map(\.words) == ["Cluster NACK c1 bad"])
        #expect(request[0].errorDetail?.code == 3)
        #expect(request[0].errorDetail?.message.contains("Cluster/a connect_timeout: expected") == true)
        #expect(harness.refusals.map(\.versions) == [[.cluster: "c2"]])
        #expect(harness.running == before)
        harness.send([Mesh.cluster("a"), Mesh.cluster("b")], version: "c3")
        #expect(harness.takeSent().map(\.words) == ["ClusterLoadAssignment ACK e1 n2 [a b]", "Cluster ACK c3 n5"])
    }

    @Test("what the owner cannot run is refused by the types at fault; the others are taken with the last good of those")
    func ownerRefuses() {
        var harness = running()
        harness.judge = { offer in
            offer.snapshot.listeners.contains { $0.address.port == 81 }
                ? [ADSClient.Problem(type: .listener, text: "listener m: cannot listen on 127.0.0.1:81")] : []
        }
        harness.isBusy = true
        // The endpoints wait for the owner, who is busy; the listeners come meanwhile.
        harness.send([Mesh.endpoints("a", 7)], version: "e2")
        harness.send([Mesh.listener("l", 80, routes: "r"), Mesh.listener("m", 81, routes: "r")], version: "l2")
        #expect(harness.takeSent() == [])
        harness.isBusy = false
        harness.answerOffer()
        #expect(harness.running?.loadAssignments == [Mesh.endpoints("a", 7)] && harness.running?.listeners.count == 1)
        let words = harness.takeSent()
        #expect(words.map(\.words) == ["ClusterLoadAssignment ACK e2 n5 [a]", "Listener NACK l1 n6"])
        #expect(words.last?.errorDetail?.message == "listener m: cannot listen on 127.0.0.1:81")
        // Something else changes while the listeners are wrong still.
        harness.send([Mesh.endpoints("a", 8)], version: "e3")
        #expect(harness.running?.loadAssignments == [Mesh.endpoints("a", 8)])
        #expect(harness.takeSent().map(\.words) == ["ClusterLoadAssignment ACK e3 n7 [a]"])
        // The port becomes free.
        harness.judge = { _ in [] }
        harness.perform(harness.client.retryRefused(now: harness.now))
        #expect(harness.running?.listeners.count == 2)
        #expect(harness.takeSent().map(\.words) == ["Listener ACK l2 n6"])
    }

    @Test("a refusal of something that was acknowledged while it was incomplete is told afterwards")
    func lateRefusal() {
        var harness = running()
        harness.judge = { _ in [ADSClient.Problem(type: .listener, text: "no")] }
        harness.send([Mesh.listener("m", 81, routes: "s")], version: "l2")
        #expect(harness.takeSent().map(\.words) == ["RouteConfiguration ACK r1 n4 [r s]", "Listener ACK l2 n5"])
        harness.send([Mesh.routes("s", to: "a")], version: "r2")
        #expect(harness.takeSent().map(\.words) == ["Listener NACK l1 n5", "RouteConfiguration ACK r2 n6 [r s]"])
        #expect(harness.running?.listeners == [Mesh.listener("l", 80, routes: "r")])
    }

    @Test("a refusal whose cause cannot be told blames what is new")
    func unknownCause() {
        var harness = running()
        harness.judge = { _ in [ADSClient.Problem(type: nil, text: "no")] }
        harness.send([Mesh.endpoints("a", 2)], version: "e2")
        #expect(harness.takeSent().map(\.words) == ["ClusterLoadAssignment NACK e1 n5 [a]"])
    }

    @Test("the text of a refusal is bounded")
    func boundedReason() {
        var harness = running()
        harness.judge = { _ in [ADSClient.Problem(type: .cluster, text: String(repeating: "x", count: 1 << 20))] }
        harness.send([Mesh.cluster("a"), Mesh.cluster("b")])
        harness.send([Mesh.endpoints("b", 1)])
        let nack = harness.takeSent().first { $0.errorDetail != nil }
        #expect((nack?.errorDetail?.message.utf8.count ?? .max) < 9000)
    }

    // MARK: Streams come and go

    @Test("a new stream tells what is held, without nonces, and the node again")
    func reconnect() {
        var harness = running()
        let before = harness.running
        harness.close()
        harness.open()
        let requests = harness.takeSent()
        #expect(
            requests.map(\.words) == [
                "NodeSettings", "Cluster c1", "ClusterLoadAssignment e1 [a]", "Listener l1", "RouteConfiguration r1 [r]",
            ])
        #expect(requests.map { $0.node != nil } == [true, false, false, false, false])
        #expect(harness.running == before)
        // A control plane that has nothing new for lists answers only what is named.
        harness.send([Mesh.endpoints("a", 1)], version: "e1")
        #expect(harness.takeSent().map(\.words) == ["ClusterLoadAssignment ACK e1 n5 [a]"])
        #expect(harness.history.count == 1)
    }

    @Test("what was refused is not said to be held")
    func reconnectAfterRefusal() {
        var harness = running()
        harness.judge = { _ in [ADSClient.Problem(type: .listener, text: "no")] }
        harness.send([Mesh.listener("m", 81, routes: "r")], version: "l2")
        harness.close()
        harness.sent = []
        harness.open()
        // Nor what was before it: a control plane that went back meanwhile would then send nothing, and the refused one would stay.
        #expect(harness.takeSent().map(\.words).contains("Listener"))
    }

    @Test("a stream that ends while the owner is busy: what is taken then is held, and nothing is sent")
    func closeDuringOffer() {
        var harness = running()
        harness.isBusy = true
        harness.send([Mesh.endpoints("a", 2)], version: "e2")
        harness.close()
        harness.isBusy = false
        harness.answerOffer()
        #expect(harness.takeSent() == [])
        #expect(harness.running?.loadAssignments == [Mesh.endpoints("a", 2)])
        harness.open()
        #expect(harness.takeSent().map(\.words).contains("ClusterLoadAssignment e2 [a]"))
    }

    @Test("an answer that belongs to the stream before is not sent on the next")
    func answerAcrossStreams() {
        var harness = running()
        harness.isBusy = true
        harness.send([Mesh.endpoints("a", 2)], version: "e2")
        harness.close()
        harness.open()
        harness.sent = []
        harness.isBusy = false
        harness.answerOffer()
        #expect(harness.takeSent() == [])
    }

    @Test("a stream that says nothing for 15 s is told, once; one that speaks is not")
    func silence() {
        var harness = Harness()
        harness.open()
        harness.wait(.seconds(14))
        #expect(harness.silences == 0)
        harness.wait(.seconds(60))
        #expect(harness.silences == 1)
        var speaking = Harness()
        speaking.open()
        speaking.send([Cluster]())
        speaking.wait(.seconds(60))
        #expect(speaking.silences == 0)
    }

    // MARK: What is not for us

    @Test("resources of a type that we did not ask for are ignored, and not subscribed to by an answer")
    func unknownType() {
        var harness = running()
        harness.receive(DiscoveryResponse(versionInfo: "1", resources: [], typeURL: "type.googleapis.com/some.Other", nonce: "x"))
        harness.receive(DiscoveryResponse([Mesh.trust("unasked")]))
        #expect(harness.takeSent() == [] && harness.told.count == 2 && harness.ends == [])
    }

    @Test("bytes that are no DiscoveryResponse end the stream")
    func garbage() {
        var harness = running()
        harness.perform(harness.client.receive([0x0a, 0xff, 1], now: harness.now))
        #expect(harness.ends.count == 1 && harness.ends[0].contains("DiscoveryResponse"))
    }
}
