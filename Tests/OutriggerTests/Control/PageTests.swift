import ArgumentParser
import ControlAPI
import Foundation
import Testing

@testable import outrigger

@Suite("Pages and tables")
struct PageTests {
    private let client = FakeControlPlane()

    @Test("columns are as wide as what they hold, numbers at the right, and no line ends with a space")
    func table() {
        var table = TextTable(["NAME", "N>", "END"])
        table.add(["a", "1000", ""])
        table.add(["long name", "2", "x"])
        table.add(note: "about it\nand more")
        #expect(table.text() == "NAME           N   END\na           1000\nlong name      2   x\n  about it\n  and more")
    }

    @Test("colours do not move columns; what would move the cursor is taken out")
    func colours() {
        var table = TextTable(["A", "B"])
        table.add([TextTable.Cell("x", .bad), "y"])
        table.add(["wide", TextTable.Cell("\u{1b}[2Jz\n", .good)])
        let text = table.text(colored: true, titled: false)
        #expect(text == "\u{1b}[31mx\u{1b}[0m      y\nwide   \u{1b}[32m\u{fffd}[2Jz \u{1b}[0m")
    }

    @Test("status: nodes with versions, a refusal under its node, what cannot be compiled at the end")
    func status() throws {
        let fault = DiagnosticMessage(severity: "error", file: "a.yaml", line: 3, column: 1, message: "VirtualNode/x: bad")
        let nodes = [
            Sample.node("cart"), Sample.node("web", acknowledged: "bbbb", applied: "bbbb", rejection: "aaaa: routes[0]: no"),
            Sample.node("slow", applied: "old"), Sample.node("gone", wanted: nil, isConnected: false),
        ]
        try client.on("GET /v1/status", Sample.status(nodes, faults: [fault], rollout: Sample.rollout("running")))
        #expect(
            try run(["status"], client).out == """
                outriggerd 0.1.0 at 127.0.0.1:15010, up 3h: revision 3, 12 resources, 3 proxies connected
                rollout 3 to revision 3: running, stage 1 of 3 (1), 1 of 4 proxies
                NODE        INSTANCE   STATE   VERSION   APPLIED    CONFIG AGE   SEEN
                shop/cart   host-1     live    aaaa      yes                2s     2s
                shop/web    host-1     live    aaaa      refused            2s     2s
                  refused: aaaa: routes[0]: no
                shop/slow   host-1     live    aaaa      accepted           2s     2s
                shop/gone   host-1     lost    -         -                  2s     2s
                cannot be compiled, these keep what they have:
                  a.yaml:3:1: VirtualNode/x: bad

                """)
    }

    @Test("--watch appends pages, or draws over the one before on a terminal")
    func watch() throws {
        try client.on("GET /v1/status", Sample.status([]))
        let paper = Paper()
        paper.patience = 1
        try run(["status", "--watch"], client, paper)
        #expect(client.calls.count == 2)
        #expect(paper.out.components(separatedBy: "outriggerd 0.1.0").count == 3)
        #expect(!paper.out.contains("\u{1b}"))
        let terminal = Paper()
        terminal.patience = 1
        try Status.parse(["--watch"]).run(terminal.session(client, isTerminal: true))
        #expect(terminal.out.hasPrefix("\u{1b}[2J\u{1b}[Houtriggerd"))
        #expect(terminal.out.components(separatedBy: "\u{1b}[H").count == 3)
        #expect(terminal.out.components(separatedBy: "\u{1b}[2J").count == 2)
    }

    @Test("a control plane that is restarted ends no watch, and is told once; one that is not there at first does")
    func restarted() throws {
        try client.on("GET /v1/status", Sample.status([]))
        client.lost = [1, 2]
        let paper = Paper()
        paper.patience = 4
        try run(["status", "--watch"], client, paper)
        #expect(paper.out.components(separatedBy: "outriggerd 0.1.0").count == 4)
        #expect(paper.notes == "no control plane answers at 127.0.0.1:15010: connection refused; trying again\n")
        client.failure = ControlFailure(reason: "connection refused", isUnreachable: true)
        #expect(throws: Failure.self) { try run(["status", "--watch"], client, paper) }
    }

    @Test("outliers: who, why, since when, until when, by whom")
    func outliers() throws {
        let item = OutlierItem(
            service: "shop/cart", endpoint: "10.0.0.1:80", reason: "consecutive5xx", since: "2026-11-23T13:59:50.000Z",
            until: "2026-11-23T14:00:20.000Z", ejectedBy: ["shop/web host-1"], callers: 3)
        try client.on("GET /v1/outliers", [item])
        #expect(
            try run(["outliers"], client).out == """
                SERVICE     ENDPOINT      REASON           SINCE   RETURNS IN   EJECTED BY
                shop/cart   10.0.0.1:80   consecutive5xx     10s          20s   1 of 3: shop/web host-1

                """)
        try client.on("GET /v1/outliers", [OutlierItem]())
        #expect(try run(["outliers"], client).out == "no endpoint is ejected\n")
    }

    @Test("top: the busiest first, figures with three digits")
    func top() throws {
        let idle = ServiceItem(service: "shop/idle", requestsPerSecond: 0, errorPercent: 0, active: 0, endpoints: 1, ejected: 0, callers: 1)
        let busy = ServiceItem(
            service: "shop/busy", requestsPerSecond: 1234.5, errorPercent: 0.251, p50Milliseconds: 1.25, p99Milliseconds: 12.34, active: 7,
            endpoints: 3, ejected: 1, callers: 2)
        try client.on("GET /v1/services", [idle, busy])
        #expect(
            try run(["top", "--window", "5m"], client).out == """
                SERVICE     REQ/S   ERRORS   P50 MS   P99 MS   ACTIVE   ENDPOINTS   EJECTED   CALLERS
                shop/busy    1234    0.25%     1.25     12.3        7           3         1         2
                shop/idle       0       0%        -        -        0           1         0         1

                """)
        #expect(client.calls[0].path == "/v1/services?window=300")
    }

    @Test(
        "lengths of time are as exact as one needs",
        arguments: [
            (0, "0s"), (119, "119s"), (120, "2m"), (125, "2m5s"), (3599, "59m"), (7300, "2h1m"), (86400, "24h"), (172800, "2d"), (-3, "0s"),
        ])
    func span(seconds: Double, text: String) {
        #expect(Times.span(seconds) == text)
    }

    @Test(
        "lengths of time are read",
        arguments: [
            ("30s", 30), ("250ms", 0.25), ("1h30m", 5400), ("1.5m", 90), ("2d", 172800), ("", nil), ("3", nil), ("s", nil), ("-1s", nil),
            ("1x", nil), ("1e999s", nil),
        ] as [(String, Double?)])
    func timeSpan(text: String, seconds: Double?) {
        #expect(TimeSpan(argument: text)?.seconds == seconds)
    }

    @Test(
        "kinds by every name",
        arguments: ["VirtualNode", "virtualnode", "virtualnodes", "vn", "VN", "node", "virtualnodes.appmesh.k8s.aws"])
    func kinds(text: String) {
        #expect(KindName(text)?.name == "VirtualNode")
        #expect(KindName("ns")?.name == "Namespace")
        #expect(KindName("vx") == nil)
    }
}
