import Base
import ProxyConfig
import Testing
import XDSClient
import XDSServer
import XDSWire

/// Our proxy's client and our server, with a slow network between them.
private struct Pair {
    var random: SeededRandom
    var client: ADSClient
    let isDelta: Bool
    var stream: DiscoveryStream
    var now = Instant(nanoseconds: 0)
    var set: ResourceSet?
    var running: Snapshot?
    var offer: ADSClient.Offer?
    var synced: String?
    var refusals = 0
    var received = 0
    var problems: [String] = []
    private var toServer: [[UInt8]] = []
    private var toClient: [[UInt8]] = []

    init(seed: UInt64, isDelta: Bool) {
        self.isDelta = isDelta
        stream = DiscoveryStream(isDelta ? .delta : .stateOfTheWorld)
        random = SeededRandom(seed: seed)
        let node = Node(mesh: "m", role: .virtualNode, name: "n")
        client = ADSClient(node: ClientNode(node), identity: node, defaults: ProcessSettings())
        take(client.streamOpened(isDelta ? .delta : .stateOfTheWorld, now: now))
    }

    mutating func take(_ actions: [ADSClient.Action]) {
        for action in actions {
            switch action {
            case .send(let request): toServer.append(request.encoded())
            case .sendDelta(let request): toServer.append(request.encoded())
            case .offer(let offer): self.offer = offer
            case .refused: refusals += 1
            case .endStream(let reason): problems.append(reason)
            case .tell(let text): problems.append(text)
            case .silence: break
            }
        }
    }

    mutating func take(_ actions: [DiscoveryStream.Action]) {
        for action in actions {
            switch action {
            case .send(let bytes): toClient.append(bytes)
            case .identified: if let set { take(stream.update(set, now: now)) }
            case .synced(let version): synced = version
            case .close(_, let reason): problems.append(reason)
            case .acked, .nacked, .unresponsive, .unknownType: break
            }
        }
    }

    mutating func update(_ world: World) {
        set = ResourceSet(world.snapshot)
        take(stream.update(set!, now: now))
    }

    /// The owner refuses what is bad in the sense of `World`, and takes everything else.
    mutating func answerOffer() {
        guard let offer else { return }
        self.offer = nil
        if let bad = offer.snapshot.clusters.first(where: { $0.connectTimeout == .seconds(World.bad) }) {
            take(client.offerRefused([ADSClient.Problem(type: .cluster, text: "Cluster/\(bad.name) is bad")], now: now))
        } else if let bad = offer.snapshot.routeConfigurations.first(where: { $0.virtualHosts.contains { $0.name == "bad" } }) {
            take(client.offerRefused([ADSClient.Problem(type: .routeConfiguration, text: "\(bad.name) is bad")], now: now))
        } else {
            running = offer.snapshot
            take(client.offerTaken(now: now))
        }
    }

    mutating func step() -> Bool {
        now = now + Nanoseconds.milliseconds(1)
        if offer != nil, random.coin() {
            answerOffer()
        } else if !toServer.isEmpty, toClient.isEmpty || random.coin() {
            take(stream.receive(toServer.removeFirst(), now: now))
        } else if !toClient.isEmpty {
            received += 1
            take(client.receive(toClient.removeFirst(), now: now))
        } else {
            return offer != nil
        }
        return true
    }

    /// The network brings one message to the server.
    mutating func serve() {
        take(stream.receive(toServer.removeFirst(), now: now))
    }

    /// All that is on the way to the client arrives.
    mutating func deliver() {
        while !toClient.isEmpty { take(client.receive(toClient.removeFirst(), now: now)) }
    }

    mutating func settle() {
        for _ in 0..<20_000 {
            if step() { continue }
            let deadline = min(stream.deadline, client.deadline)
            guard deadline < .never else { return }
            now = max(now, deadline)
            take(stream.deadlineReached(now: now))
            take(client.deadlineReached(now: now))
        }
        problems.append("it never comes to rest")
    }

    mutating func reconnect(resumes: Bool) {
        let state = stream.resumptionState
        stream = DiscoveryStream(isDelta ? .delta : .stateOfTheWorld)
        if resumes { stream.resume(state) }
        toServer = []
        toClient = []
        client.streamClosed()
        take(client.streamOpened(isDelta ? .delta : .stateOfTheWorld, now: now))
    }
}

@Suite struct OwnClientTests {
    @Test(
        "our proxy runs what the last set says, whatever happened before, and every snapshot that it runs is whole",
        arguments: [false, true])
    func anyOrder(isDelta: Bool) throws {
        var refusals = 0
        for seed in UInt64(0)..<30 {
            var pair = Pair(seed: seed, isDelta: isDelta)
            var world = World.random(&pair.random, allowsBad: false)
            pair.update(world)
            for _ in 0..<80 {
                switch pair.random.below(14) {
                case 0:
                    world = World.random(&pair.random, allowsBad: true)
                    pair.update(world)
                case 1:
                    world = world.changed(&pair.random)
                    pair.update(world)
                case 2 where pair.random.coin(3): pair.reconnect(resumes: pair.random.coin())
                default: _ = pair.step()
                }
            }
            if !world.isGood {
                world = World.random(&pair.random, allowsBad: false)
                pair.update(world)
            }
            pair.settle()
            #expect(pair.problems.isEmpty, "seed \(seed)")
            #expect(pair.synced == pair.set?.version, "seed \(seed)")
            let running = try #require(pair.running, "seed \(seed)")
            #expect(running.sorted() == world.neededSnapshot.sorted(), "seed \(seed)")
            refusals += pair.refusals

            let received = pair.received
            pair.update(world)
            pair.settle()
            #expect(pair.received == received, "seed \(seed)")
        }
        #expect(refusals > 20)
    }

    @Test("what was refused is forgotten when the stream breaks and the control plane goes back meanwhile", arguments: [false, true])
    func rollbackWhileAway(isDelta: Bool) {
        var pair = Pair(seed: 1, isDelta: isDelta)
        let good = World(
            clusters: ["c0": World.ClusterState(seconds: 1, service: "s0", secret: nil)], endpoints: ["s0": 1], routes: ["r0": ["c0"]],
            listeners: ["l0": "r0"])
        var bad = good
        bad.clusters["c0"]!.seconds = World.bad
        for world in [good, bad] {
            pair.update(world)
            while pair.step() {}
        }
        let refusals = pair.refusals
        #expect(refusals > 0)
        pair.set = ResourceSet(good.snapshot)
        pair.reconnect(resumes: true)
        while pair.step() {}
        // Only a route changes: it must not meet the clusters that were refused.
        var next = good
        next.routes["r1"] = ["c0"]
        next.listeners["l1"] = "r1"
        pair.update(next)
        while pair.step() {}
        #expect(pair.refusals == refusals)
        #expect(pair.running?.sorted() == next.neededSnapshot.sorted())
        #expect(pair.synced == pair.set?.version)
    }

    /// - Parameter isUntold: the proxy owes an answer all the while, and so cannot say that it has given up r1. Otherwise it says so, but
    ///   with a nonce that is stale.
    @Test(
        "a route that is given up and needed again, with another response on its way meanwhile, comes again",
        arguments: [false, true], [false, true])
    func needsAgain(isDelta: Bool, isUntold: Bool) {
        var pair = Pair(seed: 1, isDelta: isDelta)
        let cluster = World.ClusterState(seconds: 1, service: "s0", secret: nil)
        let before = World(
            clusters: ["c0": cluster, "c1": cluster], endpoints: ["s0": 1], routes: ["r0": ["c0"], "r1": ["c0"]],
            listeners: ["l0": "r0", "l1": "r1"])
        var without = before
        without.routes["r1"] = nil
        without.listeners["l1"] = "r0"
        if isUntold { without.routes["r0"] = ["c1"] }
        var again = before
        again.routes["r0"] = ["c1"]
        pair.update(before)
        while pair.step() {}
        pair.update(without)
        pair.deliver()
        pair.answerOffer()
        // That the listeners are accepted has arrived, and nothing else, when r1 is needed again.
        pair.serve()
        pair.update(again)
        pair.deliver()
        while pair.step() {}
        #expect(pair.running?.sorted() == again.neededSnapshot.sorted())
        #expect(pair.synced == pair.set?.version)
    }

    @Test("a new proxy has everything after a few round trips, without waiting for any timer", arguments: [false, true])
    func start(isDelta: Bool) {
        for seed in UInt64(100)..<130 {
            var pair = Pair(seed: seed, isDelta: isDelta)
            let world = World.random(&pair.random, allowsBad: false)
            pair.update(world)
            while pair.step() {}
            #expect(pair.synced == pair.set?.version, "seed \(seed)")
            #expect(pair.running?.sorted() == world.neededSnapshot.sorted(), "seed \(seed)")
        }
    }
}

extension World {
    /// Without what nothing refers to: a proxy does not ask for it.
    fileprivate var neededSnapshot: Snapshot {
        var world = self
        world.endpoints = endpoints.filter { endpoint in clusters.values.contains { $0.service == endpoint.key } }
        world.secrets = secrets.filter { secret in clusters.values.contains { $0.secret == secret.key } }
        var snapshot = world.snapshot
        // As it is read back: what is not said has a value on the wire.
        let decoded = snapshot.encodedResources().flatMap { type, resources in resources.map { try? $0.decode(type) } }
        if let whole = try? Snapshot(node: snapshot.node, process: snapshot.process, resources: decoded.compactMap { $0 }) {
            snapshot = whole
        }
        return snapshot
    }
}

extension Snapshot {
    fileprivate func sorted() -> Snapshot {
        var copy = self
        copy.listeners.sort { $0.name < $1.name }
        copy.routeConfigurations.sort { $0.name < $1.name }
        copy.clusters.sort { $0.name < $1.name }
        copy.loadAssignments.sort { $0.clusterName < $1.clusterName }
        copy.secrets.sort { $0.name < $1.name }
        return copy
    }
}
