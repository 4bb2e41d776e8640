import ControlAPI
import Foundation
import Glibc
import ProxyConfig
import TestSupport
import Testing

/// Operators take breakers in hand: by the admin interface of one proxy, and by the control plane.
@Suite(.serialized) struct BreakerTests {
    private static let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

    private func post(_ proxy: Proxy, _ path: String) throws -> HTTPMessage {
        try RawConnection(to: proxy.admin).exchange("POST \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    }

    private func outrigger(_ arguments: String...) throws -> Program.Result {
        try Program.run("\(Proxy.binaries)/outrigger", arguments)
    }

    // MARK: One proxy

    @Test("a forced endpoint gets nothing while its time lasts, the others get its requests; then it is back by itself")
    func endpoint() throws {
        let (one, other) = (try Origin.answering(ok("one")), try Origin.answering(ok("other")))
        try withProxy(to: one, other) { (proxy) throws in
            let target = "cluster=origin&endpoint=127.0.0.1:\(one.port)"
            let answer = try post(proxy, "/breakers/force?\(target)&state=open&for=3s")
            #expect(answer.status == 200, "\(answer.bodyText)")
            try eventually("it is forced") { try proxy.adminText("/breakers").contains("forced-open") }
            #expect(try proxy.adminText("/breakers").contains("forced by hand"))
            for _ in 0..<10 { #expect(try proxy.exchange(Self.get).bodyText == "other") }
            try eventually("it is back") { try proxy.exchange(Self.get).bodyText == "one" }
            #expect(try !proxy.adminText("/breakers").contains("forced-open"))
            #expect(proxy.log.contains("by hand"), "\(proxy.log)")
        }
    }

    @Test("a service without a policy can be closed to all calls: 503 CB until it is released")
    func service() throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            let forced = try outrigger("breaker", "force", "origin", "--open", "--for", "5m", "--admin", "127.0.0.1:\(proxy.admin)")
            #expect(forced.status == 0 && forced.output.contains("forced-open until"), "\(forced.output)\(forced.errors)")
            try eventually("calls are refused") { try proxy.exchange(Self.get).status == 503 }
            let refused = try proxy.exchange(Self.get)
            #expect(refused.value("x-outrigger-details")?.hasPrefix("CB ") == true, "\(refused.headText)")
            #expect(refused.value("retry-after") != nil)
            let list = try outrigger("breaker", "list", "--admin", "127.0.0.1:\(proxy.admin)")
            #expect(list.output.contains("(service)") && list.output.contains("forced-open"), "\(list.output)\(list.errors)")
            let released = try outrigger("breaker", "release", "origin", "--admin", "127.0.0.1:\(proxy.admin)")
            #expect(released.status == 0, "\(released.errors)")
            try eventually("calls pass") { try proxy.exchange(Self.get).status == 200 }
        }
    }

    @Test(
        "what cannot be forced is refused with what there is",
        arguments: [
            ("force?cluster=nothing&state=open", "cluster: expected one of origin, found \"nothing\""),
            ("force?state=open", "cluster: expected one of origin, found nothing"),
            ("force?cluster=origin&state=shut", "state: expected open, disable or observe, found \"shut\""),
            ("force?cluster=origin&state=open&for=25h", "for: expected a time from 1s through 24h, found \"25h\""),
            ("force?cluster=origin&state=open&for=0s", "for: expected a time from 1s through 24h"),
            ("force?cluster=origin&state=open&for=ten", "for: expected a time from 1s through 24h, found \"ten\""),
            ("force?cluster=origin&state=open&endpoint=10.9.9.9:1", "found \"10.9.9.9:1\""),
            ("release?cluster=origin&endpoint=x", "endpoint: expected one of 127.0.0.1:"),
        ])
    func refusals(path: String, says: String) throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            let answer = try post(proxy, "/breakers/\(path)")
            #expect(answer.status == 400 && answer.bodyText.contains(says), "\(answer.bodyText)")
            #expect(try proxy.exchange(Self.get).status == 200)
        }
    }

    // MARK: The mesh

    @Test("by the control plane all proxies of a node are meant, one that starts later too; it is recorded, and ends by itself")
    func managed() throws {
        let mesh = try ManagedMesh()
        defer { mesh.end() }
        try mesh.apply(ColorMesh().yaml)
        _ = try mesh.app(2, saying: "red")
        try mesh.start("red", 2)
        let front = try mesh.start("front", 1)
        try mesh.settle()
        try mesh.waitForAnswer(front, "red")
        let address = "127.0.0.1:\(mesh.port)"
        let forced = try outrigger(
            "breaker", "force", "lab/front", "lab/red", "--open", "--for", "20s", "--reason", "red is mended", "--control-plane", address)
        #expect(forced.status == 0, "\(forced.errors)")
        try eventually("calls are refused") { try mesh.ask(front).status == 503 }
        let later = try mesh.start("front", 3)
        try mesh.settle()
        try eventually("the later proxy refuses too") { try mesh.ask(later).status == 503 }
        try eventually("both have told") {
            try mesh.get("/v1/breakers", as: [BreakerItem].self).count { $0.state == "forced-open" && $0.endpoint == nil } == 2
        }
        let list = try outrigger("breaker", "list", "--control-plane", address)
        #expect(list.output.contains("forced-open") && list.output.contains("red is mended"), "\(list.output)\(list.errors)")
        let events = try mesh.call("GET", "/v1/events?limit=1000").bodyText
        #expect(events.contains("breaker.forced") && events.contains("red is mended"))
        let unknown = try outrigger("breaker", "force", "lab/front", "lab/blue", "--open", "--control-plane", address)
        #expect(unknown.status == 1 && unknown.errors.contains("lab/red"), "\(unknown.errors)")
        // Its end, which nobody ordered.
        try mesh.waitForAnswer(front, "red")
        try mesh.waitForAnswer(later, "red")
        try eventually("nothing is left of it") { try mesh.get("/v1/breakers", as: [BreakerItem].self).isEmpty }
        try mesh.settle()
    }
}
