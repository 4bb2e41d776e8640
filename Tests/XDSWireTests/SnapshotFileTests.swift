import Base
import ProxyConfig
import Testing

@testable import XDSWire

@Suite struct SnapshotFileTests {
    @Test("a snapshot that is encoded decodes to itself")
    func roundTrip() throws {
        for seed in UInt64(0)..<300 {
            let snapshot = RandomSnapshot.make(seed: seed)
            let file = SnapshotFile.encode(snapshot)
            do {
                #expect(try SnapshotFile.decode(file) == snapshot, "seed \(seed)")
            } catch {
                Issue.record("seed \(seed): \(error)")
            }
        }
    }

    @Test("equal snapshots have equal bytes and versions, others differ")
    func versions() {
        var versions: Set<String> = []
        for seed in UInt64(0)..<40 {
            let snapshot = RandomSnapshot.make(seed: seed)
            #expect(SnapshotFile.encode(snapshot) == SnapshotFile.encode(RandomSnapshot.make(seed: seed)), "seed \(seed)")
            let version = SnapshotFile.version(of: snapshot)
            #expect(version.utf8.count == 16)
            versions.insert(version)
        }
        #expect(versions.count == 40)
    }

    @Test("the order in which resources have come does not change the version")
    func order() {
        for seed in UInt64(0)..<40 {
            let snapshot = RandomSnapshot.make(seed: seed)
            var other = snapshot
            other.listeners.reverse()
            other.routeConfigurations.reverse()
            other.clusters.reverse()
            other.loadAssignments.reverse()
            other.secrets.reverse()
            #expect(SnapshotFile.version(of: other) == SnapshotFile.version(of: snapshot), "seed \(seed)")
        }
    }

    @Test("a file that is cut off anywhere is refused, with the reason")
    func truncation() {
        for seed in UInt64(0)..<2 {
            let file = SnapshotFile.encode(RandomSnapshot.make(seed: seed))
            for count in 0..<file.count {
                let error = #expect(throws: WireErrors.self) { try SnapshotFile.decode(Array(file.prefix(count))) }
                #expect(error?.errors.count == 1, "seed \(seed), \(count) bytes")
                #expect(error?.errors.first?.resource == "Snapshot")
            }
        }
    }

    @Test("a file with any one byte changed is refused")
    func corruption() {
        // A small one: each of its bytes costs a hash of all of them.
        let file = SnapshotFile.encode(Snapshot(node: Node(mesh: "shop", role: .virtualNode, name: "cart")))
        var random = SeededRandom(seed: 1)
        for index in file.indices {
            var damaged = file
            damaged[index] ^= UInt8(1 + random.below(255))
            #expect(throws: WireErrors.self, "byte \(index)") { try SnapshotFile.decode(damaged) }
        }
    }

    @Test("content with any bytes changed gives a snapshot or errors, never a trap")
    func flips() {
        var random = SeededRandom(seed: 2)
        var refused = 0
        for seed in UInt64(0)..<150 {
            var content = wireBytes(SnapshotContent(RandomSnapshot.make(seed: seed)))
            for _ in 0..<1 + random.below(8) { content[random.below(content.count)] = UInt8(truncatingIfNeeded: random.next()) }
            do {
                let snapshot = try decodeMessage(SnapshotContent.self, content[...], "Snapshot").value.snapshot()
                _ = SnapshotFile.encode(snapshot)
            } catch {
                refused += 1
                #expect(!error.errors.isEmpty)
            }
        }
        #expect(refused > 50)
    }

    @Test(
        "what is wrong with a file is said",
        arguments: [
            ([], "Snapshot file: expected a snapshot file, found a file of another kind"),
            (
                Array("kind: VirtualNode\n".utf8),
                "Snapshot file: expected a whole snapshot file, found one of 18 bytes that is cut off or damaged: "
            ),
            ([9, 0x6f, 0x75, 0x74, 0x72, 0x69, 0x67, 0x67, 0x72, 0x10, 2], "Snapshot file: expected format 1, found format 2"),
            (
                [9, 0x6f, 0x75, 0x74, 0x72, 0x69, 0x67, 0x67, 0x72, 0x10, 1],
                "Snapshot file: expected a whole snapshot file, found one of 11 bytes"
            ),
        ] as [([UInt8], String)])
    func reasons(file: [UInt8], expected: String) {
        let error = #expect(throws: WireErrors.self) { try SnapshotFile.decode(file) }
        #expect(error?.description.hasPrefix(expected) == true, "\(error?.description ?? "")")
    }

    @Test("damage and truncation are told apart")
    func damageAndTruncation() {
        let file = SnapshotFile.encode(RandomSnapshot.make(seed: 3))
        var damaged = file
        damaged[file.count - 1] ^= 1
        let damage = #expect(throws: WireErrors.self) { try SnapshotFile.decode(damaged) }
        #expect(damage?.description.contains("damaged content, whose hash is") == true)
        let truncation = #expect(throws: WireErrors.self) { try SnapshotFile.decode(Array(file.dropLast())) }
        #expect(truncation?.description.contains("bytes that end inside a field") == true)
    }

    @Test("the file says whose it is in its first nine bytes")
    func firstBytes() {
        let file = SnapshotFile.encode(RandomSnapshot.make(seed: 0))
        #expect(String(decoding: file[1..<9], as: UTF8.self) == "outriggr")
    }
}
