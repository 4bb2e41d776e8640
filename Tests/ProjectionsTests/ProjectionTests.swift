import Base
import EventStore
import Foundation
import MeshModel
import Testing

@testable import Projections

@Suite("Folding events")
struct FoldTests {
    /// Some hundred events of every kind that change the desired state, and others between them.
    static func chain(seed: UInt64) throws -> Workshop {
        var random = SeededRandom(seed: seed)
        var shop = Workshop()
        try shop.apply(Texts.mesh)
        for step in 0..<60 {
            let name = "node-\(random.next() % 6)"
            let instance = InstanceKey(node: Texts.nodeKey(name), instance: "i\(random.next() % 3)")
            switch random.next() % 10 {
            case 0...2: try shop.apply(joined(Texts.node(name, port: Int(1 + random.next() % 9)), Texts.service(name, of: name)))
            case 3: try shop.run(Command.plan(delete: [Texts.nodeKey(name), Texts.serviceKey(name)], from: shop.state))
            case 4:
                try shop.record(
                    .nodeRegistered(NodeRegistration(instance: instance.instance, node: instance.node, address: "10.0.0.1", ports: [80])))
            case 5: try shop.record(.nodeReady(InstanceChange(instance: instance)))
            case 6: try shop.record(.nodeLeft(InstanceChange(instance: instance, reason: "gone")))
            case 7: try shop.record(.snapshotApplied(SnapshotChange(instance: instance, version: "v\(step)")))
            case 8:
                let end = UnixTime(milliseconds: Int64(step) * 3_600_000)
                try shop.record(
                    .certificateIssued(
                        IssuedCertificate(
                            serial: "\(step)", instance: instance, identity: "spiffe://demo", notBefore: end, notAfter: end, authority: "a")
                    ))
            default:
                try shop.record(.rolloutStarted(RolloutStart(revision: step, previous: 0, stages: ["100%"], pauseMilliseconds: 0)))
                try shop.record(.rolloutCompleted(RolloutEnd(revision: step)))
            }
        }
        return shop
    }

    static func same(_ left: ReadModels, _ right: ReadModels) -> Bool {
        left.desired == right.desired && left.history == right.history && left.nodes == right.nodes && left.endpoints == right.endpoints
            && left.rollouts == right.rollouts && left.certificates == right.certificates && left.tokens == right.tokens
            && left.overrides == right.overrides
            && left.sequence == right.sequence && left.desired.mesh.all == right.desired.mesh.all
    }

    @Test("gives the same in any pieces, and from any snapshot", arguments: 1...8 as ClosedRange<UInt64>)
    func batches(seed: UInt64) throws {
        let shop = try Self.chain(seed: seed)
        let events = shop.chain.events
        var random = SeededRandom(seed: seed &+ 99)
        var pieces = ReadModels()
        var rest = events[...]
        while !rest.isEmpty {
            let piece = rest.prefix(1 + Int(random.next() % 20))
            // What was folded before changes nothing.
            try pieces.apply(Array(events.prefix(piece.startIndex).suffix(2)) + piece)
            rest = rest.dropFirst(piece.count)
        }
        #expect(Self.same(pieces, shop.models), "seed \(seed)")

        // Through a log, with snapshots of a moment in between.
        let log = try SQLiteEventLog(inMemory: ())
        var models = ReadModels()
        let cut = Int(random.next() % UInt64(events.count))
        for group in Dictionary(grouping: events, by: \.batch).sorted(by: { $0.key < $1.key }).map(\.value) {
            let drafts = group.map { EventDraft(kind: $0.kind, payload: $0.payload) }
            let stored = try log.append(
                EventBatch(events: drafts, actor: group[0].actor, reason: group[0].reason, time: group[0].time))
            try models.apply(stored)
            if stored[0].sequence <= cut, stored.last!.sequence >= cut { try log.save(models.snapshots()) }
        }
        let restored = try ReadModels(from: log)
        #expect(Self.same(restored, shop.models), "seed \(seed), snapshot behind \(cut)")
        #expect(restored.desired.documentsParsed <= restored.desired.objects.count, "only the last text of each object is parsed")
        try log.dropSnapshots()
        #expect(Self.same(try ReadModels(from: log), shop.models), "seed \(seed), without snapshots")
    }

    @Test("every past revision is found again, from the log and the nearest snapshot", arguments: [1, 2] as [UInt64])
    func pastStates(seed: UInt64) throws {
        let shop = try Self.chain(seed: seed)
        let log = try SQLiteEventLog(inMemory: ())
        var models = ReadModels()
        var states = [DesiredState()]
        var times = [UnixTime(milliseconds: 0)]
        for group in Dictionary(grouping: shop.chain.events, by: \.batch).sorted(by: { $0.key < $1.key }).map(\.value) {
            let drafts = group.map { EventDraft(kind: $0.kind, payload: $0.payload) }
            try models.apply(log.append(EventBatch(events: drafts, actor: "a", time: group[0].time)))
            if models.desired.revision == states.count {
                states.append(models.desired)
                times.append(group[0].time)
            }
            if group[0].sequence % 5 == 0 { try log.save(models.snapshots()) }
        }
        let past = PastStates(log: log, history: models.history)
        // As if history had forgotten all: then the log alone tells.
        for (revision, expected) in states.enumerated() {
            let found = try past.state(atRevision: revision)
            #expect(found.objects == expected.objects && found.revision == revision, "seed \(seed), revision \(revision)")
            #expect(try past.state(at: times[revision]).objects == expected.objects, "seed \(seed), time of revision \(revision)")
            let late = UnixTime(milliseconds: times[revision].milliseconds - 1)
            if revision > 0 { #expect(try past.state(at: late).revision == revision - 1) }
        }
        #expect(throws: UnknownRevision(revision: 999, newest: states.count - 1)) { try past.state(atRevision: 999) }
    }

    @Test("every event is read back as it was written, and its kind has a name of its own")
    func coding() throws {
        let key = Texts.nodeKey("cart")
        let instance = InstanceKey(node: key, instance: "a")
        let object = AppliedObject(key: key, document: "a: \"ü\\n\"\n", file: "a/b.yaml", line: 3)
        let time = UnixTime(milliseconds: 1_700_000_000_123)
        let authority = AuthorityChange(authority: "00ff", certificatePEM: "-----BEGIN", notAfter: time)
        let events: [MeshEvent] = [
            .resourceApplied(object), .resourceDeleted(key), .namespaceApplied(object), .namespaceDeleted(ObjectKey(namespace: "shop")),
            .commandNote(CommandNote(command: "rollback", revision: 3, text: "x")),
            .nodeRegistered(NodeRegistration(instance: "a", node: key, address: "10.0.0.1", ports: [80, 81], zone: "z")),
            .nodeReady(InstanceChange(instance: instance)), .nodeDraining(InstanceChange(instance: instance)),
            .nodeLeft(InstanceChange(instance: instance, reason: "lost")),
            .snapshotWanted(SnapshotChange(instance: instance, version: "1")),
            .snapshotAcknowledged(SnapshotChange(instance: instance, version: "1")),
            .snapshotRefused(SnapshotChange(instance: instance, version: "1", reason: "no")),
            .snapshotApplied(SnapshotChange(instance: instance, version: "1")),
            .rolloutStarted(RolloutStart(revision: 2, previous: 1, stages: ["canary=1"], pauseMilliseconds: 30)),
            .rolloutStageStarted(RolloutStage(revision: 2, stage: 0, instances: [instance])),
            .rolloutStageCompleted(RolloutStage(revision: 2, stage: 0)), .rolloutCompleted(RolloutEnd(revision: 2)),
            .rolloutCompensated(RolloutEnd(revision: 2, reason: "5xx")), .rolloutStopped(RolloutEnd(revision: 2, reason: "by hand")),
            .tokenCreated(TokenCreation(id: "t", hash: "00", role: "join", node: key, expiry: time)),
            .tokenUsed(TokenChange(id: "t", instance: instance)), .tokenRevoked(TokenChange(id: "t")),
            .certificateIssued(
                IssuedCertificate(serial: "1", instance: instance, identity: "spiffe://x", notBefore: time, notAfter: time, authority: "a")),
            .authorityCreated(authority), .authorityRotated(authority),
            .breakerForced(
                BreakerForce(target: OverrideTable.Key(node: key, cluster: "c", endpoint: "10.0.0.1:80"), action: "open", until: time)),
            .breakerReleased(BreakerRelease(target: OverrideTable.Key(node: key, cluster: "c"))),
        ]
        #expect(Set(events.map(\.kind)) == Set(MeshEvent.Kind.allCases))
        var chain = Chain()
        for event in events { #expect(try MeshEvent(chain.append([event])[0]) == event) }
    }

    @Test("the words of the log stay as they are")
    func format() {
        let event = MeshEvent.resourceDeleted(Texts.nodeKey("cart"))
        #expect(event.draft.kind == "resource.deleted")
        #expect(String(decoding: event.draft.payload, as: UTF8.self) == #"{"kind":"VirtualNode","name":"cart","namespace":"shop","v":1}"#)
    }

    @Test(
        "what a newer version wrote is refused with that reason",
        arguments: [
            ("mesh.teleported", "{\"v\":1}", "does not know the kind"),
            ("resource.deleted", "{\"v\":2}", "version 2, this program knows up to 1"),
            ("resource.deleted", "{}", "cannot be read"), ("resource.deleted", "", "cannot be read"),
        ])
    func newer(kind: String, payload: String, problem: String) throws {
        let draft = EventDraft(kind: kind, payload: Data(payload.utf8))
        let stored = StoredEvent(
            draft, sequence: 1, batch: 1, following: 0, time: UnixTime(milliseconds: 0), actor: "", reason: "", previousHash: .none)
        var models = ReadModels()
        do {
            try models.apply([stored])
            Issue.record("it was taken")
        } catch {
            #expect(error.description.contains(problem))
            #expect(error.sequence == 1)
        }
    }

    @Test("history keeps who, when, why and what; the oldest revisions are dropped, and still found")
    func history() throws {
        var shop = Workshop()
        try shop.apply(joined(Texts.mesh, Texts.node("cart")), reason: "begin", time: 5000)
        try shop.run(Command.plan(delete: [Texts.nodeKey("cart")], from: shop.state), time: 6000)
        let first = try #require(shop.models.history[1])
        #expect(first.actor == "user:alice" && first.reason == "begin" && first.time.milliseconds == 5000)
        #expect(first.changes.map(\.action) == [.created, .created])
        #expect(shop.models.history[2]?.changes == [History.Change(key: Texts.nodeKey("cart"), action: .deleted)])
        #expect(shop.models.history[3] == nil && shop.models.history[0] == nil)

        var chain = Chain()
        var history = History()
        let object = AppliedObject(key: Texts.meshKey, document: Texts.mesh, file: "-", line: 1)
        for _ in 0..<11_000 { try history.apply(chain.append([.resourceApplied(object)])[0]) }
        #expect(history.count == 11_000)
        #expect(history.revisions.count == 10_000)
        #expect(history[1000] == nil && history[1001]?.number == 1001 && history[11_000]?.last == 11_000)
    }
}
