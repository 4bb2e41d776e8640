import Base
import ProxyConfig
import Testing
import XDSWire

@testable import XDSServer

/// One stream, spoken to by hand.
private struct Talk {
    var stream: DiscoveryStream
    var now = Instant(nanoseconds: 0)
    private(set) var news: [DiscoveryStream.Action] = []
    private var isNodeSent = false

    init(_ variant: DiscoveryStream.Variant, _ world: World, resuming: DiscoveryStream.Resumption? = nil) {
        stream = DiscoveryStream(variant, controlPlane: "outriggerd")
        if let resuming { stream.resume(resuming) }
        _ = stream.update(ResourceSet(world.snapshot, for: .envoy), now: now)
    }

    private mutating func take(_ actions: [DiscoveryStream.Action]) -> [Response] {
        actions.compactMap { action in
            guard case .send(let bytes) = action else {
                news.append(action)
                return nil
            }
            if case .delta = stream.variant { return (try? DeltaDiscoveryResponse(decoding: bytes)).map(Response.init) }
            return (try? DiscoveryResponse(decoding: bytes)).map(Response.init)
        }
    }

    private mutating func node() -> ClientNode? {
        defer { isNodeSent = true }
        return isNodeSent ? nil : ModelClient.node
    }

    mutating func ask(
        _ type: StreamedType, _ names: [String] = [], version: String = "", nonce: String = "", error: String? = nil
    ) -> [Response] {
        let request = DiscoveryRequest(
            versionInfo: version, node: node(), resourceNames: names, typeURL: type.typeURL, responseNonce: nonce,
            errorDetail: error.map { RPCStatus(code: 3, message: $0) })
        return take(stream.receive(request.encoded(), now: now))
    }

    mutating func askDelta(
        _ type: StreamedType, _ subscribe: [String] = [], no unsubscribe: [String] = [], have: [String: String] = [:], nonce: String = "",
        error: String? = nil
    ) -> [Response] {
        let request = DeltaDiscoveryRequest(
            node: node(), typeURL: type.typeURL, subscribe: subscribe, unsubscribe: unsubscribe, initialVersions: have,
            responseNonce: nonce, errorDetail: error.map { RPCStatus(code: 3, message: $0) })
        return take(stream.receive(request.encoded(), now: now))
    }

    mutating func update(_ world: World) -> [Response] { take(stream.update(ResourceSet(world.snapshot, for: .envoy), now: now)) }

    mutating func wait(_ span: Nanoseconds) -> [Response] {
        now = now + span
        return take(stream.deadlineReached(now: now))
    }

    mutating func ack(_ responses: [Response], _ names: [StreamedType: [String]] = [:]) -> [Response] {
        responses.flatMap { response in
            switch stream.variant {
            case .delta: askDelta(response.type, nonce: response.nonce)
            case .stateOfTheWorld:
                ask(response.type, names[response.type] ?? [], version: response.version, nonce: response.nonce)
            }
        }
    }

    /// Subscribes to everything that `small` has, and accepts it all.
    mutating func settle() {
        let names: [StreamedType: [String]] = [.clusterLoadAssignment: ["s0"], .routeConfiguration: ["r0"]]
        for type in [StreamedType.cluster, .clusterLoadAssignment, .listener, .routeConfiguration] {
            switch stream.variant {
            case .delta: _ = ack(askDelta(type, names[type] ?? []))
            case .stateOfTheWorld: _ = ack(ask(type, names[type] ?? []), names)
            }
        }
        news = []
    }
}

private struct Response: Equatable {
    var type: StreamedType
    var version: String
    var names: [String]
    var removed: [String] = []
    var nonce: String
    var messages: [AnyMessage]

    init(_ response: DiscoveryResponse) {
        type = StreamedType(typeURL: response.typeURL)!
        version = response.versionInfo
        names = ((try? response.decodeResources()) ?? []).map(\.name)
        nonce = response.nonce
        messages = response.resources
    }

    init(_ response: DeltaDiscoveryResponse) {
        type = StreamedType(typeURL: response.typeURL)!
        version = response.systemVersion
        names = response.resources.map(\.name)
        removed = response.removed
        nonce = response.nonce
        messages = response.resources.map(\.message)
    }

    /// `cluster: a b -c`.
    var text: String { (["\(type):"] + names + removed.map { "-\($0)" }).joined(separator: " ") }
}

extension [Response] {
    fileprivate var texts: [String] { map(\.text) }
}

extension World {
    /// One cluster with its endpoints, a route to it and a listener.
    fileprivate static let small = World(
        clusters: ["c0": ClusterState(seconds: 1, service: "s0", secret: nil)], endpoints: ["s0": 1], routes: ["r0": ["c0"]],
        listeners: ["l0": "r0"])

    fileprivate func with(_ change: (inout World) -> Void) -> World {
        var copy = self
        change(&copy)
        return copy
    }

    /// `small` with the route moved to a new cluster.
    fileprivate static let moved = small.with {
        $0.clusters = ["c1": ClusterState(seconds: 1, service: "s1", secret: nil)]
        $0.endpoints = ["s1": 1]
        $0.routes = ["r0": ["c1"]]
    }
}

@Suite struct WorldRuleTests {
    @Test("rule 1: a client that holds the version is sent nothing of LDS and CDS, and is answered for what it names")
    func sameVersion() {
        var first = Talk(.stateOfTheWorld, .small)
        let clusters = first.ask(.cluster)[0]
        _ = first.ack([clusters])
        let assignments = first.ask(.clusterLoadAssignment, ["s0"])[0]
        _ = first.ack([assignments], [.clusterLoadAssignment: ["s0"]])
        let listeners = first.ask(.listener)[0]

        var second = Talk(.stateOfTheWorld, .small)
        #expect(second.ask(.cluster, version: clusters.version).isEmpty)
        #expect(second.ask(.clusterLoadAssignment, ["s0"], version: assignments.version).texts == ["clusterLoadAssignment: s0"])
        var third = Talk(.stateOfTheWorld, .small)
        #expect(third.ask(.listener, version: listeners.version).isEmpty)
        #expect(third.ask(.cluster, version: "of another").texts == ["cluster: c0"])
    }

    @Test("rule 1: the version is of the content, whatever stream it is on")
    func versionOfContent() {
        var one = Talk(.stateOfTheWorld, .moved)
        _ = one.update(.small)
        var other = Talk(.stateOfTheWorld, .small)
        let (first, second) = (one.ask(.cluster), other.ask(.cluster))
        #expect(first[0].version == second[0].version && !first[0].version.isEmpty)
    }

    @Test("rule 2: neither ACK nor NACK is answered; both are told")
    func answers() {
        var talk = Talk(.stateOfTheWorld, .small)
        let clusters = talk.ask(.cluster)
        #expect(talk.ask(.cluster, version: clusters[0].version, nonce: clusters[0].nonce).isEmpty)
        let assignments = talk.ask(.clusterLoadAssignment, ["s0"])
        #expect(talk.ask(.clusterLoadAssignment, ["s0"], nonce: assignments[0].nonce, error: "ClusterLoadAssignment/s0 x: no").isEmpty)
        let refusal = DiscoveryStream.Refusal(
            type: .clusterLoadAssignment, version: assignments[0].version, names: ["s0"], code: 3, reason: "ClusterLoadAssignment/s0 x: no")
        #expect(
            talk.news == [.identified(ModelClient.node), .acked(.cluster, version: clusters[0].version), .nacked(refusal)])
    }

    @Test("rule 2: what was refused is not sent again until it changes, and then with all that was refused with it")
    func refused() {
        var talk = Talk(.stateOfTheWorld, .small)
        talk.settle()
        let bad = World.small.with { $0.clusters["c0"]!.seconds = World.bad }
        let sent = talk.update(bad)
        #expect(sent.texts == ["cluster: c0", "clusterLoadAssignment: s0"])
        _ = talk.ack([sent[1]], [.clusterLoadAssignment: ["s0"]])
        #expect(talk.ask(.cluster, nonce: sent[0].nonce, error: "no").isEmpty)
        #expect(talk.update(bad).isEmpty)
        // Endpoints move all the same; routes wait.
        let endpoints = talk.update(
            bad.with {
                $0.endpoints["s0"] = 7
                $0.listeners["l1"] = "r0"
            })
        #expect(endpoints.texts == ["clusterLoadAssignment: s0"])
        _ = talk.ack(endpoints, [.clusterLoadAssignment: ["s0"]])
        // Back to what it has: told, since it may have taken a part of what it refused.
        let back = talk.update(.small)
        #expect(back.texts == ["cluster: c0", "clusterLoadAssignment: s0"])
    }

    @Test("rule 3: a stale request is not answered; the next one is")
    func stale() {
        var talk = Talk(.stateOfTheWorld, .small)
        _ = talk.ack(talk.ask(.cluster))
        let first = talk.ask(.clusterLoadAssignment, ["s0"])
        _ = talk.ack(first, [.clusterLoadAssignment: ["s0"]])
        let second = talk.update(.small.with { $0.endpoints["s0"] = 2 })
        #expect(second.texts == ["clusterLoadAssignment: s0"])
        #expect(talk.ask(.clusterLoadAssignment, ["s0", "s1"], nonce: first[0].nonce).isEmpty)
        #expect(talk.ask(.clusterLoadAssignment, ["s0", "s1"], nonce: second[0].nonce).texts == ["clusterLoadAssignment: s1"])
    }

    @Test("rule 3: a name that a stale request gives up has been forgotten: given again, it is answered, after what is under way")
    func givenUpByStale() {
        var talk = Talk(.stateOfTheWorld, .small.with { $0.endpoints["s1"] = 1 })
        _ = talk.ack(talk.ask(.cluster))
        let first = talk.ask(.clusterLoadAssignment, ["s0", "s1"])
        _ = talk.ack(first, [.clusterLoadAssignment: ["s0", "s1"]])
        let second = talk.update(.small.with { $0.endpoints = ["s0": 2, "s1": 1] })
        #expect(second.texts == ["clusterLoadAssignment: s0"])
        #expect(talk.ask(.clusterLoadAssignment, ["s0"], nonce: first[0].nonce).isEmpty)
        #expect(talk.ask(.clusterLoadAssignment, ["s0", "s1"], nonce: first[0].nonce).isEmpty)
        #expect(talk.ask(.clusterLoadAssignment, ["s0", "s1"], nonce: second[0].nonce).texts == ["clusterLoadAssignment: s1"])
    }

    @Test("rule 4: names that are added are answered, also with an ACK, also if nothing has changed")
    func addedNames() {
        var talk = Talk(.stateOfTheWorld, .small.with { $0.endpoints["s1"] = 1 })
        _ = talk.ack(talk.ask(.cluster))
        let first = talk.ask(.clusterLoadAssignment, ["s0"])
        let added = talk.ask(.clusterLoadAssignment, ["s0", "s1"], version: first[0].version, nonce: first[0].nonce)
        #expect(added.texts == ["clusterLoadAssignment: s1"])
    }

    @Test("rule 5: no names mean everything at first, and nothing after the first name; a star always means everything")
    func wildcard() {
        var talk = Talk(.stateOfTheWorld, .small.with { $0.clusters["c1"] = $0.clusters["c0"] })
        let all = talk.ask(.cluster)
        #expect(all.texts == ["cluster: c0 c1"])
        #expect(talk.ask(.cluster, version: all[0].version, nonce: all[0].nonce).isEmpty)
        let one = talk.ask(.cluster, ["c1", "nobody"], nonce: all[0].nonce)
        #expect(one.texts == ["cluster: c1"])
        #expect(talk.ask(.cluster, nonce: one[0].nonce).isEmpty)
        #expect(talk.update(.small.with { $0.clusters["c1"] = World.ClusterState(seconds: 3, service: "s0", secret: nil) }).isEmpty)
        #expect(talk.ask(.cluster, ["*"], nonce: one[0].nonce).texts == ["cluster: c0 c1"])
    }

    @Test("rule 6: endpoints come alone when only they change")
    func endpoints() {
        var talk = Talk(.stateOfTheWorld, .small.with { $0.endpoints["s1"] = 1 })
        talk.settle()
        #expect(talk.update(.small.with { $0.endpoints = ["s0": 1, "s1": 2] }).isEmpty)
        #expect(talk.update(.small.with { $0.endpoints = ["s0": 3, "s1": 2] }).texts == ["clusterLoadAssignment: s0"])
    }

    @Test("rule 7: of endpoints that do not exist there is an empty assignment, and the real one when it comes into being")
    func absentEndpoints() throws {
        var talk = Talk(.stateOfTheWorld, .small)
        _ = talk.ack(talk.ask(.cluster))
        let empty = talk.ask(.clusterLoadAssignment, ["s9"])
        #expect(empty.texts == ["clusterLoadAssignment: s9"])
        #expect(empty[0].messages == [AnyMessage(ClusterLoadAssignment(clusterName: "s9", localities: []))])
        _ = talk.ack(empty, [.clusterLoadAssignment: ["s9"]])
        let real = talk.update(.small.with { $0.endpoints["s9"] = 4 })
        #expect(real.map(\.messages) == [[AnyMessage(World.assignment("s9", 4))]])
    }

    @Test("on a new stream, endpoints of a cluster that is about to go are left as the client has them")
    func endpointsBroughtAlong() {
        var talk = Talk(.stateOfTheWorld, .small)
        #expect(talk.ask(.clusterLoadAssignment, ["s9"], version: "of another stream").isEmpty)
        // Those that are wanted are answered.
        var other = Talk(.stateOfTheWorld, .small)
        #expect(other.ask(.clusterLoadAssignment, ["s0", "s9"], version: "of another stream").texts == ["clusterLoadAssignment: s0"])
    }

    @Test("rule 7: a route or a secret that does not exist is not answered before it does")
    func absentNames() {
        var talk = Talk(.stateOfTheWorld, .small)
        #expect(talk.ask(.routeConfiguration, ["r9"]).isEmpty)
        #expect(talk.ask(.secret, ["k9"]).isEmpty)
        #expect(talk.update(.small.with { $0.secrets["k9"] = 1 }).texts == ["secret: k9"])
    }

    @Test("a client without any cluster is told so")
    func empty() {
        var talk = Talk(.stateOfTheWorld, World())
        #expect(talk.ask(.cluster).texts == ["cluster:"])
        var delta = Talk(.delta, World())
        #expect(delta.askDelta(.cluster).texts == ["cluster:"])
    }

    @Test("rules of section 3: clusters and endpoints, then routes, then removals, each when the one before is accepted")
    func steps() {
        var talk = Talk(.stateOfTheWorld, .small)
        talk.settle()
        let clusters = talk.update(.moved)
        #expect(clusters.texts == ["cluster: c0 c1"])
        // The client asks for the endpoints of the new one, and accepts.
        let endpoints = talk.ask(.clusterLoadAssignment, ["s0", "s1"], nonce: "2")
        #expect(endpoints.texts == ["clusterLoadAssignment: s1"])
        #expect(talk.ack(clusters).isEmpty)
        let routes = talk.ack(endpoints, [.clusterLoadAssignment: ["s0", "s1"]])
        #expect(routes.texts == ["routeConfiguration: r0"])
        let removal = talk.ack(routes, [.routeConfiguration: ["r0"]])
        #expect(removal.texts == ["cluster: c1"])
        #expect(!talk.news.contains { if case .synced = $0 { true } else { false } })
        #expect(talk.ack(removal).isEmpty)
        #expect(talk.news.last == .synced(version: ResourceSet(World.moved.snapshot, for: .envoy).version))
    }

    @Test("a changed cluster brings its endpoints again, though they are the same; so does a new one of the same endpoints")
    func warming() {
        var talk = Talk(.stateOfTheWorld, .small)
        talk.settle()
        let changed = talk.update(.small.with { $0.clusters["c0"]!.seconds = 2 })
        #expect(changed.texts == ["cluster: c0", "clusterLoadAssignment: s0"])
        _ = talk.ack(changed, [.clusterLoadAssignment: ["s0"]])
        let added = talk.update(
            .small.with {
                $0.clusters["c0"]!.seconds = 2
                $0.clusters["c1"] = $0.clusters["c0"]
            })
        #expect(added.texts == ["cluster: c0 c1", "clusterLoadAssignment: s0"])
    }

    @Test("secrets come before what needs them")
    func secrets() {
        let world = World.small.with {
            $0.clusters["c0"]!.secret = "k0"
            $0.secrets["k0"] = 1
        }
        var talk = Talk(.stateOfTheWorld, world)
        _ = talk.ask(.secret, ["k0"]).map { talk.ack([$0], [.secret: ["k0"]]) }
        talk.settle()
        let rotated = talk.update(
            world.with {
                $0.secrets["k0"] = 2
                $0.clusters["c0"]!.seconds = 2
            })
        #expect(rotated.texts == ["secret: k0", "cluster: c0", "clusterLoadAssignment: s0"])
    }

    @Test("nothing waits for the secret that a proxy has itself, and never asks for")
    func ownSecret() {
        var talk = Talk(.stateOfTheWorld, .small.with { $0.clusters["c0"]!.secret = Secret.identityName })
        talk.settle()
        #expect(talk.stream.deadline == .never)
    }

    @Test("sets that come while a response is under way coalesce")
    func coalescing() {
        var talk = Talk(.stateOfTheWorld, .small)
        talk.settle()
        let first = talk.update(.small.with { $0.endpoints["s0"] = 2 })
        for port in 3...100 { #expect(talk.update(.small.with { $0.endpoints["s0"] = port }).isEmpty) }
        let last = talk.ack(first, [.clusterLoadAssignment: ["s0"]])
        #expect(last.map(\.messages) == [[AnyMessage(World.assignment("s0", 100))]])
        #expect(talk.ack(last, [.clusterLoadAssignment: ["s0"]]).isEmpty)
    }

    @Test("refused routes keep their old clusters where they are")
    func refusedRoutes() {
        var talk = Talk(.stateOfTheWorld, .small)
        talk.settle()
        let clusters = talk.update(.moved)
        let endpoints = talk.ask(.clusterLoadAssignment, ["s0", "s1"], nonce: "2")
        _ = talk.ack(clusters)
        let routes = talk.ack(endpoints, [.clusterLoadAssignment: ["s0", "s1"]])
        #expect(talk.ask(.routeConfiguration, ["r0"], nonce: routes[0].nonce, error: "no").isEmpty)
        // Something else changes: still nothing is removed.
        let more = talk.update(World.moved.with { $0.clusters["c2"] = $0.clusters["c1"] })
        #expect(more.texts == ["cluster: c0 c1 c2", "clusterLoadAssignment: s1"])
        #expect(talk.ack(more, [.clusterLoadAssignment: ["s0", "s1"]]).isEmpty)
    }

    @Test("a stream that takes over from another takes nothing away before its time")
    func resumption() {
        var first = Talk(.stateOfTheWorld, .small)
        let clusters = first.ask(.cluster)
        _ = first.ack(clusters)
        var second = Talk(.stateOfTheWorld, .moved, resuming: first.stream.resumptionState)
        #expect(second.ask(.cluster, version: clusters[0].version).texts == ["cluster: c0 c1"])
        // A stream that ended before it began hands on what it was given.
        var unused = DiscoveryStream(.stateOfTheWorld)
        unused.resume(first.stream.resumptionState)
        var third = Talk(.stateOfTheWorld, .moved, resuming: unused.resumptionState)
        #expect(third.ask(.cluster, version: clusters[0].version).texts == ["cluster: c0 c1"])
    }

    @Test("a client that does not answer is told once, and nothing else happens to it")
    func unresponsive() {
        var talk = Talk(.stateOfTheWorld, .small)
        let clusters = talk.ask(.cluster)
        #expect(talk.stream.deadline == Instant(nanoseconds: 30_000_000_000))
        #expect(talk.wait(.seconds(29)).isEmpty)
        #expect(!talk.news.contains(.unresponsive(.cluster)))
        #expect(talk.wait(.seconds(1)).isEmpty)
        #expect(talk.wait(.seconds(100)).isEmpty)
        #expect(talk.news.filter { $0 == .unresponsive(.cluster) }.count == 1)
        _ = talk.ack(clusters)
        #expect(talk.news.contains(.acked(.cluster, version: clusters[0].version)))
    }

    @Test("a client that never asks for what its resources refer to is waited for once")
    func patience() {
        var talk = Talk(.stateOfTheWorld, .small)
        _ = talk.ack(talk.ask(.cluster))
        #expect(talk.ask(.listener).isEmpty)
        #expect(talk.stream.deadline == Instant(nanoseconds: 5_000_000_000))
        #expect(talk.wait(.seconds(5)).texts == ["listener: l0"])
        let changed = talk.update(.small.with { $0.listeners["l1"] = "r0" })
        #expect(changed.isEmpty)
    }

    @Test("what is not served is told once for each type, and not answered")
    func unknownTypes() {
        var talk = Talk(.stateOfTheWorld, .small)
        for _ in 0..<2 {
            let request = DiscoveryRequest(node: ModelClient.node, typeURL: "type.googleapis.com/x.Y")
            let actions = talk.stream.receive(request.encoded(), now: talk.now)
            #expect(!actions.contains { if case .send = $0 { true } else { false } })
        }
        var fresh = DiscoveryStream(.stateOfTheWorld)
        let request = DiscoveryRequest(node: ModelClient.node, typeURL: "type.googleapis.com/x.Y").encoded()
        #expect(
            fresh.receive(request, now: talk.now) == [.identified(ModelClient.node), .unknownType("type.googleapis.com/x.Y")])
        #expect(fresh.receive(request, now: talk.now).isEmpty)
    }

    @Test("a stream ends with the reason where nobody could go on")
    func failures() {
        var nameless = DiscoveryStream(.stateOfTheWorld)
        let noNode = nameless.receive(DiscoveryRequest(typeURL: StreamedType.cluster.typeURL).encoded(), now: Instant(nanoseconds: 0))
        #expect(noNode == [.close(code: 3, reason: "node: expected a value in the first request, found nothing")])
        var garbled = DiscoveryStream(.delta)
        guard case .close(3, _)? = garbled.receive([0xff], now: Instant(nanoseconds: 0)).first else {
            Issue.record("garbage was taken")
            return
        }
        var greedy = Talk(.stateOfTheWorld, .small)
        _ = greedy.ask(.cluster, (0...50_000).map { "c\($0)" })
        #expect(greedy.news.last == .close(code: 8, reason: "resource_names: expected at most 50000, found 50001"))
        var long = Talk(.delta, .small)
        _ = long.askDelta(.cluster, [String(repeating: "x", count: 5000)])
        #expect(long.news.last == .close(code: 3, reason: "resource_names: expected names of at most 4096 bytes, found one of 5000"))
    }

    @Test("our own proxies get who they are and how they run; others do not ask")
    func settings() throws {
        var stream = DiscoveryStream(.stateOfTheWorld)
        let set = ResourceSet(World.small.snapshot, for: .outrigger)
        _ = stream.update(set, now: Instant(nanoseconds: 0))
        let request = DiscoveryRequest(node: ModelClient.node, typeURL: NodeSettings.typeURL)
        guard case .send(let bytes)? = stream.receive(request.encoded(), now: Instant(nanoseconds: 0)).last else {
            Issue.record("no answer")
            return
        }
        let settings = try NodeSettings(try DiscoveryResponse(decoding: bytes))
        #expect(settings == NodeSettings(node: World.small.snapshot.node, process: World.small.snapshot.process))
    }
}

@Suite struct DeltaRuleTests {
    @Test("rule 3: a subscription counts whatever the nonce says")
    func staleNonce() {
        var talk = Talk(.delta, .small)
        _ = talk.ack(talk.askDelta(.cluster))
        #expect(talk.askDelta(.clusterLoadAssignment, ["s0"], nonce: "999").texts == ["clusterLoadAssignment: s0"])
    }

    @Test("rule 7: a name that does not exist is said not to at once, and sent when it does")
    func absent() {
        var talk = Talk(.delta, .small)
        let answer = talk.askDelta(.clusterLoadAssignment, ["s9"])
        #expect(answer.texts == ["clusterLoadAssignment: -s9"])
        _ = talk.ack(answer)
        #expect(talk.update(.small.with { $0.endpoints["s9"] = 1 }).texts == ["clusterLoadAssignment: s9"])
    }

    @Test("rule 9: what the client holds is not sent again; what has changed is, and what is gone is removed in the end")
    func initialVersions() {
        let set = ResourceSet(World.small.snapshot, for: .envoy)
        let version = set.resources[.cluster]!["c0"]!.version
        var same = Talk(.delta, .small)
        #expect(same.askDelta(.cluster, have: ["c0": version]).isEmpty)
        var other = Talk(.delta, .small)
        #expect(other.askDelta(.cluster, have: ["c0": "old"]).texts == ["cluster: c0"])
        var gone = Talk(.delta, .small)
        #expect(gone.askDelta(.cluster, have: ["c0": version, "c9": "old"]).isEmpty)
        _ = gone.ack(gone.askDelta(.clusterLoadAssignment, ["s0"]))
        _ = gone.ack(gone.askDelta(.listener))
        let routes = gone.askDelta(.routeConfiguration, ["r0"])
        #expect(gone.ack(routes).texts == ["cluster: -c9"])
    }

    @Test("rule 9: who subscribes again is answered, though nothing has changed")
    func again() {
        var talk = Talk(.delta, .small)
        talk.settle()
        #expect(talk.askDelta(.clusterLoadAssignment, ["s0"]).texts == ["clusterLoadAssignment: s0"])
    }

    @Test("rule 9: who gives up a name while everything is subscribed is told what there is of it")
    func unsubscribe() {
        var talk = Talk(.delta, .small)
        _ = talk.ack(talk.askDelta(.cluster, ["*", "c0", "c9"]))
        #expect(talk.askDelta(.cluster, no: ["c0", "c9"]).texts == ["cluster: c0 -c9"])
        #expect(talk.askDelta(.cluster, no: ["*"]).isEmpty)
        #expect(talk.update(.small.with { $0.clusters["c0"]!.seconds = 2 }).isEmpty)
    }

    @Test("section 3 holds for delta: the old cluster is removed when the route has moved")
    func steps() {
        var talk = Talk(.delta, .small)
        talk.settle()
        let clusters = talk.update(.moved)
        #expect(clusters.texts == ["cluster: c1"])
        #expect(talk.ack(clusters).isEmpty)
        let routes = talk.ack(talk.askDelta(.clusterLoadAssignment, ["s1"]))
        #expect(routes.texts == ["routeConfiguration: r0"])
        let removal = talk.ack(routes)
        #expect(removal.texts == ["cluster: -c0"])
        let rest = talk.ack(removal)
        #expect(rest.texts == ["clusterLoadAssignment: -s0"])
        _ = talk.ack(rest)
        #expect(talk.news.last == .synced(version: ResourceSet(World.moved.snapshot, for: .envoy).version))
    }

    @Test("a changed cluster brings the same endpoints in the same version")
    func warming() {
        var talk = Talk(.delta, .small)
        talk.settle()
        #expect(
            talk.update(.small.with { $0.clusters["c0"]!.seconds = 2 }).texts == ["cluster: c0", "clusterLoadAssignment: s0"])
    }

    @Test("a client that asks and accepts nothing gets no more than sixteen answers ahead")
    func bounded() {
        var talk = Talk(.delta, .small)
        _ = talk.ack(talk.askDelta(.cluster))
        var answers = 0
        for _ in 0..<100 { answers += talk.askDelta(.clusterLoadAssignment, ["s0"]).count }
        #expect(answers == 16)
    }
}
