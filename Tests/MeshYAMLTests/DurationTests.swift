import MeshModel
import Testing

@testable import MeshYAML

@Suite("Durations, in App Mesh's form and ours")
struct DurationTests {
    static func read(_ value: String) -> (Duration?, [String]) {
        let yaml =
            Manifests.mesh + """
                ---
                apiVersion: outrigger/v1
                kind: Sidecar
                metadata: {name: it}
                spec:
                  virtualGatewayRef: {name: edge}
                  drainTime: \(value)
                """
        let result = Manifests.load(("app.yaml", yaml))
        let problems = result.diagnostics.filter { $0.severity == .error }
        return (result.resources.sidecars.first?.drainTime, problems.map { "\($0.path): \($0.problem)" })
    }

    @Test(
        "good ones",
        arguments: [
            ("30s", .seconds(30)), ("\"30s\"", .seconds(30)), ("250ms", .milliseconds(250)), ("2m", .seconds(120)), ("1h", .seconds(3600)),
            ("1m30s", .seconds(90)), ("1.5s", .milliseconds(1500)), ("0.25s500ms", .milliseconds(750)), ("0s", .zero), ("0ms", .zero),
            ("1.000000000s", .seconds(1)), ("{unit: s, value: 30}", .seconds(30)), ("{value: 1500, unit: ms}", .milliseconds(1500)),
            ("{unit: s, value: 0}", .zero), ("{unit: s, value: 315576000000}", .seconds(315_576_000_000)),
            ("{unit: ms, value: 315576000000000}", .seconds(315_576_000_000)),
            ("315576000000s", .seconds(315_576_000_000)),
        ] as [(String, Duration)])
    func good(text: String, expected: Duration) {
        let (value, problems) = Self.read(text)
        #expect(problems == [])
        #expect(value == expected)
    }

    @Test(
        "bad ones",
        arguments: [
            ("\"30\"", ": \"30\" has no unit (use 30s or {unit: s, value: 30})"),
            ("30", ": \"30\" has no unit (use 30s or {unit: s, value: 30})"),
            ("30x", ": \"30x\": unknown unit \"x\" (use ms, s, m or h)"),
            ("30S", ": \"30S\": unknown unit \"S\" (use ms, s, m or h)"),
            ("-5s", ": \"-5s\": must not be negative"),
            ("0.3ms", ": \"0.3ms\": finer than 1 ms"),
            ("0.0000000001s", ": \"0.0000000001s\": finer than 1 ms"),
            ("soon", ": \"soon\" is not a duration (use 30s or {unit: s, value: 30})"),
            ("1.s", ": \"1.s\" is not a duration (use 30s or {unit: s, value: 30})"),
            ("\"\"", ": expected a duration such as 30s or {unit: s, value: 30}, found an empty string"),
            ("9999999999999999s", ": \"9999999999999999s\": too long"),
            ("999999999999999h", ": \"999999999999999h\": too long"),
            ("315576000000001ms", ": \"315576000000001ms\": too long"),
            ("{unit: ms, value: 315576000000001}", ".value: expected an integer from 0 through 315576000000000, found 315576000000001"),
            ("{unit: s, value: 9223372036854775808}", ".value: expected an integer from 0 through 315576000000, found 9223372036854775808"),
            ("[30s]", ": expected a duration such as 30s or {unit: s, value: 30}, found a list"),
            ("{unit: m, value: 30}", ".unit: expected one of s, ms, found m"),
            ("{unit: s}", ".value: expected an integer from 0 through 315576000000 (required), found nothing"),
            ("{value: 3}", ".unit: expected one of s, ms (required), found nothing"),
            ("{unit: s, value: -1}", ".value: expected an integer from 0 through 315576000000, found -1"),
            ("{unit: s, value: \"30\"}", ".value: expected an integer from 0 through 315576000000, found the string \"30\""),
            ("{unit: s, value: 1.5}", ".value: expected an integer from 0 through 315576000000, found 1.5"),
        ] as [(String, String)])
    func bad(text: String, expected: String) {
        #expect(Self.read(text).1 == ["spec.drainTime" + expected])
    }
}
