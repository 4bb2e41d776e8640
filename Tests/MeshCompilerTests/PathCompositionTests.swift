import ProxyConfig
import Testing

@testable import MeshCompiler

@Suite("Two passes in one")
struct PathCompositionTests {
    private static let gateways: [GatewayPath] = [
        .prefix("/", becomes: "/"), .prefix("/shop", becomes: "/"), .prefix("/shop/", becomes: "/"), .prefix("/shop", becomes: "/v2/"),
        .prefix("/shop/", becomes: "/v2/"), .prefix("/shop", becomes: "/shop"), .prefix("/", becomes: "/v2/"),
        .exact("/shop", becomes: "/shop"), .exact("/shop", becomes: "/v2/cart"), .regex("/shop(/.*)?"), .regex("/.*[0-9]"),
        .regexBecoming("/shop.*", "/v2/cart/7"),
    ]
    private static let routers: [RouteMatch.Path] = [
        .prefix("/"), .prefix("/cart"), .prefix("/v2"), .prefix("/v2/cart"), .prefix("/v2/cart/"), .prefix("/shop/cart"), .exact("/"),
        .exact("/cart"), .exact("/v2/"), .exact("/v2/cart"), .exact("/shop"), .regex("/v2/.*"), .regex(".*"), .regex("/cart/[0-9]+"),
        .regex("/v2/cart(/[0-9]+)?"), .regex("/(cart|shop)/.*|/v2/cart"), .regex(".*/[0-9]"), .regex("/+cart"), .regex("/v?2?/?cart"),
    ]
    private static let paths = [
        "/", "/shop", "/shop/", "/shopping", "/shop/cart", "/shop/cart/", "/shop/cart/7", "/shopcart", "/shopcart/7", "/cart", "/cart/7",
        "/v2", "/v2/", "/v2/cart", "/v2/cart/7", "/shop/v2/cart", "/shop/v2/cart/7", "/shop/2", "/other", "/vcart", "/shop/v2cart",
    ]

    /// What App Mesh's two passes do: the path that the service gets, or nil.
    private func twice(_ gateway: GatewayPath, _ router: RouteMatch.Path, _ path: String) -> String? {
        let between: String
        switch gateway {
        case .prefix(let prefix, let replacement):
            guard path.hasPrefix(prefix) else { return nil }
            between = replacement + path.dropFirst(prefix.count)
        case .exact(let exact, let replacement):
            guard path == exact else { return nil }
            between = replacement
        case .regex(let pattern):
            guard Self.matches(pattern, path) else { return nil }
            between = path
        case .regexBecoming(let pattern, let replacement):
            guard Self.matches(pattern, path) else { return nil }
            between = replacement
        }
        // The second pass sees the normal form.
        let normal = between.replacing("//", with: "/")
        return Self.matches(router, normal) ? normal : nil
    }

    private func once(_ composed: [PathComposition], _ path: String) -> String? {
        for match in composed where Self.matches(match.path, path) && match.conditions.allSatisfy({ Self.holds($0, path) }) {
            switch (match.rewrite, match.path) {
            case (nil, _): return path
            case (.full(let whole), _): return whole
            case (.prefix(let replacement), .prefix(let prefix)): return replacement + path.dropFirst(prefix.count)
            case (.prefix(let replacement), _): return replacement
            }
        }
        return nil
    }

    private static func matches(_ match: RouteMatch.Path, _ path: String) -> Bool {
        switch match {
        case .prefix(let prefix): path.hasPrefix(prefix)
        case .exact(let exact): path == exact
        case .regex(let pattern): matches(pattern, path)
        }
    }

    private static func matches(_ pattern: String, _ path: String) -> Bool {
        guard let regex = try? Regex(pattern) else { return false }
        return (try? regex.wholeMatch(in: path)) != nil
    }

    /// `:path` carries the query: the conditions must hold with one and without.
    private static func holds(_ matcher: HeaderMatcher, _ path: String) -> Bool {
        switch matcher.condition {
        case .prefix(let prefix): return path.hasPrefix(prefix)
        case .regex(let pattern):
            let (bare, queried) = (matches(pattern, path), matches(pattern, "\(path)?a=/b"))
            #expect(bare == queried, "\(pattern) on \(path)")
            return bare
        default: return false
        }
    }

    @Test("give the service what App Mesh's two gave it, for every pair of matches and every path", arguments: gateways)
    func law(gateway: GatewayPath) throws {
        for router in Self.routers {
            let composed = try PathComposition.compose(gateway, router)
            for path in Self.paths {
                #expect(once(composed, path) == twice(gateway, router, path), "\(gateway) then \(router) on \(path): \(composed)")
            }
        }
    }

    @Test(
        "A pattern without its known beginning",
        arguments: [
            ("/a", "/", ["a"]), ("/a", "/b", []), ("/.*", "/", [".*"]), (".*", "/x", [".*"]), (".*b", "/", [".*b"]), ("/?a", "/", ["a"]),
            ("/+a", "/", ["/*a"]), ("/*a", "/", ["/*a"]), ("/a|/b", "/", ["a", "b"]), ("/(a|b)", "/", ["(a|b)"]), ("(a|/b)c", "/", ["bc"]),
            ("(/a)?/b", "/", ["a/b", "b"]), ("(/a)*", "/", ["a(/a)*"]), ("(?:/|/a)+b", "/", ["(?:/|/a)*b", "a(?:/|/a)*b"]),
            ("(/*)*a", "/", nil),
            ("[/x]a", "/", ["a"]), ("[^/]a", "/", []), ("[]/]", "/", nil), ("/{2}a", "/", nil), ("(?i)/a", "/", nil),
            ("\\D+", "/", ["\\D*"]), ("\\/a", "/", ["a"]), ("\\.a", "/", []), ("\\d", "/", []), ("\\b/", "/", nil), ("a", "/", []),
            ("^/a$", "/", ["a$"]),
            ("(a", "/", nil), ("/a[|]b|c", "/", ["a[|]b"]), ("/a\\|b", "/a", ["\\|b"]),
        ] as [(String, String, [String]?)])
    func derivative(pattern: String, beginning: String, expected: [String]?) {
        #expect(RegexDerivative.of(pattern, by: beginning) == expected)
    }
}
