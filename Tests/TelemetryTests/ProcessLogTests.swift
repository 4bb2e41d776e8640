import Glibc
import Testing

@testable import Telemetry

@Suite struct ProcessLogTests {
    private func lines(_ body: (ProcessLog) -> Void) -> String {
        var ends: [CInt] = [-1, -1]
        guard unsafe pipe(&ends) == 0 else { return "no pipe" }
        body(ProcessLog(descriptor: ends[1], clock: { 1_795_370_220_123_456_789 }))
        close(ends[1])
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = unsafe read(ends[0], &bytes, bytes.count)
        close(ends[0])
        return String(decoding: bytes[..<max(count, 0)], as: UTF8.self)
    }

    @Test("a line has time, level, area, message and fields; values that are no words are quoted and escaped")
    func line() {
        let text = lines { log in
            log.warning("config", "snapshot refused", ["kind": "listener", "error": "port \"80\"\nin use", "empty": ""])
        }
        #expect(
            text == #"[2026-11-22T17:57:00.123Z][warning][config] snapshot refused kind=listener error="port \"80\"\nin use" empty="""#
                + "\n")
    }

    @Test("a line in a message cannot begin another line")
    func oneLine() {
        #expect(lines { $0.error("a", "x\n[forged]") }.dropLast().contains("\n") == false)
    }

    @Test("lines below the level are left out, and the level can change", arguments: ProcessLog.Level.allCases)
    func levels(threshold: ProcessLog.Level) {
        let text = lines { log in
            log.level = threshold
            for level in ProcessLog.Level.allCases { log.log(level, "a", "m") }
        }
        let expected = ProcessLog.Level.allCases.filter { $0 >= threshold && $0 != .off }.map { "[\($0)]" }
        #expect(text.split(separator: "\n").count == expected.count)
        for word in expected { #expect(text.contains(word)) }
    }

    @Test(
        "levels are known by Envoy's words",
        arguments: [
            ("trace", .trace), ("debug", .debug), ("info", .info), ("warning", .warning), ("warn", .warning), ("error", .error),
            ("err", .error),
            ("critical", .critical), ("off", .off), ("loud", nil), ("", nil),
        ] as [(String, ProcessLog.Level?)])
    func words(word: String, level: ProcessLog.Level?) {
        #expect(ProcessLog.Level(word) == level)
    }
}
