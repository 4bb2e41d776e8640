import Base
import ProxyConfig
import Testing
import XDSWire

@testable import XDSServer

/// A client and a server with a slow network between them: messages arrive in order, whenever chance has it.
struct Simulation {
    var random: SeededRandom
    var client: ModelClient
    var stream: DiscoveryStream
    var now = Instant(nanoseconds: 0)
    var toServer: [[UInt8]] = []
    var toClient: [[UInt8]] = []
    var set: ResourceSet?
    var actions: [DiscoveryStream.Action] = []

    init(seed: UInt64, _ variant: DiscoveryStream.Variant, takesParts: Bool) {
        random = SeededRandom(seed: seed)
        client = ModelClient(variant, takesParts: takesParts)
        stream = DiscoveryStream(variant)
        client.streamOpened()
        collect()
    }

    private mutating func collect() {
        toServer += client.outbox
        client.outbox = []
    }

    mutating func apply(_ news: [DiscoveryStream.Action]) {
        for action in news {
            actions.append(action)
            switch action {
            case .send(let bytes): toClient.append(bytes)
            case .identified:
                if let set { apply(stream.update(set, now: now)) }
            case .close(_, let reason): client.problems.append("closed: \(reason)")
            default: break
            }
        }
    }

    mutating func update(_ world: World) {
        set = ResourceSet(world.snapshot, for: .envoy)
        apply(stream.update(set!, now: now))
    }

    /// One message arrives somewhere, if any is on its way.
    mutating func step() throws -> Bool {
        now = now + Nanoseconds.milliseconds(1)
        if toServer.isEmpty, toClient.isEmpty { return false }
        if !toServer.isEmpty, toClient.isEmpty || random.coin() {
            apply(stream.receive(toServer.removeFirst(), now: now))
        } else {
            try client.receive(toClient.removeFirst())
            collect()
        }
        return true
    }

    mutating func settle() throws {
        for _ in 0..<10_000 {
            if try step() { continue }
            let deadline = stream.deadline
            guard deadline < .never else { return }
            now = max(now, deadline)
            apply(stream.deadlineReached(now: now))
        }
        client.problems.append("it never comes to rest")
    }

    mutating func reconnect(resumes: Bool) {
        let state = stream.resumptionState
        stream = DiscoveryStream(client.variant)
        if resumes { stream.resume(state) }
        toServer = []
        toClient = []
        client.streamOpened()
        collect()
    }
}

@Suite struct InterleavingTests {
    struct Mode: Sendable, CustomTestStringConvertible {
        var variant: DiscoveryStream.Variant
        var takesParts: Bool
        var reconnects: Bool

        var testDescription: String { "\(variant)\(takesParts ? ", takes parts" : "")\(reconnects ? ", reconnects" : "")" }
    }

    /// A client that took parts of what it refused does not say so to its next stream: then nobody could know what it has.
    private static let modes = [
        Mode(variant: .stateOfTheWorld, takesParts: false, reconnects: true),
        Mode(variant: .stateOfTheWorld, takesParts: true, reconnects: false),
        Mode(variant: .delta, takesParts: false, reconnects: true),
        Mode(variant: .delta, takesParts: true, reconnects: false),
    ]

    @Test(
        "whatever happens in between, in the end a client has exactly what it shall, and never less than its routes need", arguments: modes)
    func anyOrder(mode: Mode) throws {
        for seed in UInt64(0)..<40 {
            var simulation = Simulation(seed: seed, mode.variant, takesParts: mode.takesParts)
            var world = World.random(&simulation.random, allowsBad: false)
            simulation.update(world)
            for _ in 0..<60 {
                switch simulation.random.below(12) {
                case 0:
                    world = World.random(&simulation.random, allowsBad: true)
                    simulation.update(world)
                case 1:
                    world = world.changed(&simulation.random)
                    simulation.update(world)
                case 2 where mode.reconnects && simulation.random.coin(3): simulation.reconnect(resumes: true)
                default: _ = try simulation.step()
                }
            }
            if !world.isGood {
                world = World.random(&simulation.random, allowsBad: false)
                simulation.update(world)
            }
            try simulation.settle()
            let differences = try simulation.client.differences(from: world)
            #expect(differences.isEmpty, "seed \(seed)")
            #expect(simulation.client.problems.isEmpty, "seed \(seed)")
            #expect(simulation.actions.last(where: \.isNews) == .synced(version: simulation.set!.version), "seed \(seed)")

            // And then there is silence.
            let received = simulation.client.received
            simulation.update(world)
            try simulation.settle()
            #expect(simulation.client.received == received, "seed \(seed)")
            if !differences.isEmpty || !simulation.client.problems.isEmpty { break }
        }
    }
}

extension DiscoveryStream.Action {
    var isNews: Bool {
        switch self {
        case .synced, .nacked, .close: true
        default: false
        }
    }
}
