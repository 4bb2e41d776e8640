import HTTP
import ProxyConfig
import Testing

@testable import Routing

private func rewriting(
    _ path: RouteMatch.Path, _ pathRewrite: ForwardAction.PathRewrite?, _ head: Head,
    host hostRewrite: ForwardAction.HostRewrite? = nil
) throws -> CompiledRoute {
    let action = ForwardAction(target: .cluster("c"), pathRewrite: pathRewrite, hostRewrite: hostRewrite)
    let table = try RouteTable(configuration([Route(name: "r", match: RouteMatch(path: path), action: .forward(action))]))
    guard case .forward(let route, _) = table.match(head, random: 0) else { throw Unmatched() }
    return route
}

private struct Unmatched: Error {}

private func values(_ name: String, _ head: Head) -> [String] {
    head.fields.filter { head.string($0.name).lowercased() == name }.map { head.string($0.value) }
}

@Suite("Rewrites")
struct RewriteTests {
    @Test(
        "Exactly what matched is replaced, and the query stays",
        arguments: [
            (.prefix("/a"), .prefix("/b"), "/a", "/b"),
            (.prefix("/a"), .prefix("/b"), "/a/x", "/b/x"),
            (.prefix("/a"), .prefix("/b"), "/ax?q=/a", "/bx?q=/a"),
            (.prefix("/a"), .prefix("/b"), "/a?q", "/b?q"),
            (.prefix("/a"), .prefix("/"), "/a/x", "//x"),
            (.prefix("/a/"), .prefix("/"), "/a/x", "/x"),
            (.prefix("/a/"), .prefix("/"), "/a/", "/"),
            (.prefix("/a/"), .prefix("/"), "/a/?", "/?"),
            (.prefix("/"), .prefix("/v1/"), "/x", "/v1/x"),
            (.prefix(""), .prefix("/v1"), "/x", "/v1/x"),
            (.prefix("/caf\u{e9}/"), .prefix("/th\u{e9}/"), "/caf%C3%A9/x", "/th%C3%A9/x"),
            (.prefix("/a/"), .prefix("/b/"), "/a/..x", "/b/..x"),
            (.prefix("/a"), .prefix("/b"), "/a../x", "/b../x"),
            (.exact("/a"), .prefix("/b/c"), "/a?q", "/b/c?q"),
            (.regex("/a/.*"), .prefix("/b"), "/a/x/y?q", "/b?q"),
            (.prefix("/a"), .full("/z"), "/a/x/y?q", "/z?q"),
            (.exact("/a"), .full("/z"), "/a", "/z"),
            (.regex(".*"), .full("/z/"), "/a?", "/z/?"),
        ] as [(RouteMatch.Path, ForwardAction.PathRewrite, String, String)])
    func path(match: RouteMatch.Path, rewrite: ForwardAction.PathRewrite, target: String, expected: String) throws {
        let head = request(target, [("X-Envoy-Original-Path", "/forged"), ("x-last", "1")])
        let route = try rewriting(match, rewrite, head)
        try route.rewrite(head)
        #expect(head.string(head.target) == expected)
        #expect(values("x-envoy-original-path", head) == [target], "the path as it was, once")
        #expect(head.first(.envoyOriginalPath).map { $0.nameEnd == $0.valueStart } == true)
        #expect(values("x-last", head) == ["1"])
        #expect(head.string(head.authority) == "a.example")
    }

    @Test(
        "A path that does not change leaves no trace",
        arguments: [
            (RouteMatch.Path.prefix("/a"), ForwardAction.PathRewrite?.none, "/a"), (.prefix("/a"), .prefix("/a"), "/a/b?q"),
            (.prefix("/"), .full("/"), "/?q"), (.prefix(""), .full("/x"), "*"),
        ])
    func unchanged(match: RouteMatch.Path, rewrite: ForwardAction.PathRewrite?, target: String) throws {
        let head = request(target, method: "OPTIONS", [("x-envoy-original-path", "/from/the/gateway")])
        let route = try rewriting(match, rewrite, head)
        let (bytes, range) = (head.bytes, head.target)
        try route.rewrite(head)
        #expect(head.bytes == bytes)
        #expect(head.target == range)
        #expect(values("x-envoy-original-path", head) == ["/from/the/gateway"])
    }

    @Test(
        "A rewrite that makes a dot segment is refused, and the head stays as it was",
        arguments: [
            (.prefix("/a"), "/files/", "/a../secret"),
            (.prefix("/a"), "/files/", "/a..?q"),
            (.prefix("/a"), "/files/", "/a.."),
            (.prefix("/a"), "/files/", "/a..;x"),
            (.prefix("/a"), "/files/", "/a./x"),
            (.prefix("/a"), "/files/.", "/a./x"),
            (.prefix("/a"), "/files/..", "/a/x"),
            (.prefix("/a"), "/files/..", "/a"),
        ] as [(RouteMatch.Path, String, String)])
    func dotSegment(match: RouteMatch.Path, rewrite: String, target: String) throws {
        let head = request(target)
        let route = try rewriting(match, .prefix(rewrite), head)
        let (bytes, range, count) = (head.bytes, head.target, head.fields.count)
        #expect(throws: PathError.rewriteMakesDotSegment) { try route.rewrite(head) }
        #expect(head.bytes == bytes)
        #expect(head.target == range)
        #expect(head.fields.count == count)
    }

    @Test("A literal host goes into the authority and the Host field, in its place and spelling")
    func host() throws {
        let head = request("/a/x", host: "old.example:80", [("x-last", "1")])
        let route = try rewriting(.prefix("/a"), .prefix("/b"), head, host: .literal("new.example:8080"))
        try route.rewrite(head)
        #expect(head.string(head.authority) == "new.example:8080")
        #expect(head.string(head.fields[0].name) == "Host")
        #expect(head.string(head.fields[0].value) == "new.example:8080")
        #expect(head.fields[0].nameEnd == head.fields[0].valueStart)
        #expect(head.string(head.target) == "/b/x")
        #expect(!route.rewritesHostToEndpoint)
    }

    @Test("The endpoint's host name is left to the proxy")
    func endpointHost() throws {
        let head = request("/", host: "old")
        let route = try rewriting(.prefix("/"), nil, head, host: .endpointHostname)
        try route.rewrite(head)
        #expect(route.rewritesHostToEndpoint)
        #expect(head.string(head.authority) == "old")
        CompiledRoute.replaceAuthority(head, with: Array("pod-1".utf8))
        #expect(head.string(head.authority) == "pod-1")
        #expect(values("host", head) == ["pod-1"])
    }

    @Test("Long and odd paths are sized from the result (case T15)")
    func long() throws {
        let tail = String(repeating: "%C3%A9/+", count: 5000)
        let head = request("/a/\(tail)?\(tail)")
        let route = try rewriting(.prefix("/a/"), .prefix("/\(String(repeating: "b", count: 3000))/"), head)
        try route.rewrite(head)
        #expect(head.string(head.target) == "/\(String(repeating: "b", count: 3000))/\(tail)?\(tail)")
        #expect(values("x-envoy-original-path", head) == ["/a/\(tail)?\(tail)"])
    }
}
