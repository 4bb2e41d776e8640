import Base
import Foundation
import ProxyConfig
import Reactor
import TestSupport
import Testing
import XDSWire

@testable import Proxy

@Suite("The last good snapshot on disk")
final class StateFileTests {
    let folder: TemporaryFolder
    let loop = EventLoop()
    var told: [String] = []

    init() throws {
        folder = try TemporaryFolder()
    }

    private func state(_ name: String = "state") -> StateFile {
        StateFile(path: folder.file(name), loop: loop) { [unowned self] in told.append($0) }
    }

    private func snapshot(_ number: Int) -> Snapshot {
        Snapshot(
            node: Node(mesh: "m", role: .virtualNode, name: "n\(number)"),
            secrets: [Secret(name: "s", content: .certificate(chain: [1], privateKey: [2]))])
    }

    @Test("what is kept is read again, secrets too, and nobody else may read the file")
    func roundTrip() throws {
        let state = state()
        state.keep(snapshot(1))
        #expect(try state.read().snapshot == snapshot(1))
        var facts = stat()
        #expect(unsafe stat(folder.file("state"), &facts) == 0 && facts.st_mode & 0o777 == 0o600)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["state"])
    }

    @Test("a burst of changes is one write at once, and one of the last a second later")
    func throttled() throws {
        let state = state()
        for number in 1...5 { state.keep(snapshot(number)) }
        #expect(try state.read().snapshot == snapshot(1))
        let end = Clock.now() + Nanoseconds.seconds(10)
        while try state.read().snapshot != snapshot(5), Clock.now() < end { loop.turn(maximumWait: .seconds(1)) }
        #expect(try state.read().snapshot == snapshot(5))
        state.keep(snapshot(6))
        state.write()
        #expect(try state.read().snapshot == snapshot(6), "at the end of the process what waits is written")
    }

    @Test("a file that is not there is told from one that is damaged")
    func unreadable() throws {
        func problem() throws -> StateProblem {
            do throws(StateProblem) {
                _ = try state().read()
            } catch {
                return error
            }
            throw TestFailure("it was read")
        }
        #expect(try problem().isAbsent)
        var bytes = SnapshotFile.encode(snapshot(1))
        bytes[bytes.count / 2] ^= 1
        try folder.replace("state", with: bytes)
        #expect(try !problem().isAbsent)
        #expect(try problem().text.contains("damaged"))
    }

    @Test("a folder that cannot be written to is told once")
    func unwritable() {
        let state = state("none/state")
        state.keep(snapshot(1))
        #expect(told.count == 1 && state.problem != nil)
        state.keep(snapshot(2))
        state.write()
        #expect(told.count == 1)
    }
}
