import Base
import EventStore
import Foundation
import Glibc
import TestSupport
import Testing

@Suite("A log whose process is killed")
struct CrashTests {
    /// Beside the tests themselves.
    static let appender =
        URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent().path + "/event-appender"

    @Test("kill -9 at any moment loses no acknowledged event, and leaves no half batch", arguments: [1, 2, 3] as [UInt64])
    func killed(seed: UInt64) throws {
        let folder = try TemporaryFolder()
        var random = SeededRandom(seed: seed)
        var end = 0
        for round in 0..<12 {
            let program = try Program(Self.appender, [folder.file("data"), "\(seed * 1000 + UInt64(round))"])
            // Sometimes while it opens the log, mostly within a commit or a checkpoint some time later.
            let lines = round % 4 == 0 ? 0 : 1 + Int(random.next() % 200)
            try eventually("\(lines) events; it said: \(program.errors)", every: .milliseconds(1)) {
                program.output.utf8.count { $0 == UInt8(ascii: "\n") } >= lines
            }
            usleep(UInt32(random.next() % (lines == 0 ? 50_000 : 5_000)))
            program.signal(SIGKILL)
            let result = try program.wait()
            #expect(result.status == 128 + SIGKILL, "seed \(seed), round \(round): it ended on its own: \(result.output) \(result.errors)")

            let log = try SQLiteEventLog(directory: folder.file("data"), verifying: round % 3 == 0 ? .whole : .sinceSnapshot)
            // A last line that is cut was not said.
            let said = result.output.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
            for line in said {
                let words = line.split(separator: " ")
                let sequence = try #require(Int(words[0]))
                let found = try #require(
                    try log.events(after: sequence - 1, limit: 1).first, "seed \(seed), round \(round): \(line) is lost")
                #expect(found.hash.description == words[1])
            }
            let last = log.last
            #expect(last?.sequence ?? 0 >= end, "seed \(seed), round \(round): what was there before is not")
            #expect(last?.following ?? 0 == 0, "seed \(seed), round \(round): a half batch")
            end = last?.sequence ?? 0
        }
        #expect(end > 100, "seed \(seed): too few events for a test")
        try SQLiteEventLog(directory: folder.file("data"), verifying: .whole).verify()
    }
}
