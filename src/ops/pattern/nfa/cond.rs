//! Conditions of edges: boolean functions of up to 64 tests, as a sum of products.
//!
//! A *test* is one `where` or `until`; it has a truth value, never NULL. A *cube* is true if all
//! tests in `must` are true and all in `not` are false. The form makes an edge's test two ANDs.

/// A product of tests and negated tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cube {
    pub must: u64,
    pub not: u64,
}

impl Cube {
    const TRUE: Cube = Cube { must: 0, not: 0 };

    /// Whether it holds, given which tests are true.
    #[inline(always)]
    pub fn holds(self, truth: u64) -> bool {
        truth & self.must == self.must && truth & self.not == 0
    }

    fn implies(self, other: Cube) -> bool {
        self.must & other.must == other.must && self.not & other.not == other.not
    }
}

/// Any of some cubes; sorted, none implies another. No cube: false.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cond(pub Vec<Cube>);

impl Cond {
    /// Always true.
    pub fn always() -> Cond {
        Cond(vec![Cube::TRUE])
    }

    /// True where test `i` is.
    ///
    /// # Panics
    /// If `i` is 64 or more (patterns with more tests are refused).
    pub fn test(i: usize) -> Cond {
        assert!(i < 64, "a pattern has at most 64 tests");
        let must = 1 << i;
        Cond(vec![Cube { must, not: 0 }])
    }

    /// Both. O(product of the cubes).
    pub fn and(&self, other: &Cond) -> Cond {
        let mut cubes = Vec::new();
        for a in &self.0 {
            for b in &other.0 {
                let (must, not) = (a.must | b.must, a.not | b.not);
                if must & not == 0 {
                    cubes.push(Cube { must, not });
                }
            }
        }
        Cond(cubes).reduced()
    }

    /// Either.
    pub fn or(&self, other: &Cond) -> Cond {
        Cond([&self.0[..], &other.0[..]].concat()).reduced()
    }

    /// The opposite.
    pub fn negated(&self) -> Cond {
        let mut all = Cond::always();
        for cube in &self.0 {
            let mut any = Vec::new();
            for i in 0..64 {
                let bit = 1u64 << i;
                if cube.must & bit != 0 {
                    any.push(Cube { must: 0, not: bit });
                }
                if cube.not & bit != 0 {
                    any.push(Cube { must: bit, not: 0 });
                }
            }
            all = all.and(&Cond(any));
        }
        all
    }

    fn reduced(mut self) -> Cond {
        self.0.sort_unstable();
        self.0.dedup();
        let all = self.0.clone();
        self.0.retain(|&cube| !all.iter().any(|&other| other != cube && cube.implies(other)));
        self
    }

    /// Whether it holds, given which tests are true.
    pub fn holds(&self, truth: u64) -> bool {
        self.0.iter().any(|cube| cube.holds(truth))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Tree {
        Test(usize),
        Not(Box<Tree>),
        And(Box<Tree>, Box<Tree>),
        Or(Box<Tree>, Box<Tree>),
    }

    fn tree() -> impl Strategy<Value = Tree> {
        (0..5usize).prop_map(Tree::Test).prop_recursive(4, 24, 2, |inner| {
            prop_oneof![
                inner.clone().prop_map(|a| Tree::Not(Box::new(a))),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| Tree::And(a.into(), b.into())),
                (inner.clone(), inner).prop_map(|(a, b)| Tree::Or(a.into(), b.into())),
            ]
        })
    }

    fn flat(tree: &Tree) -> Cond {
        match tree {
            Tree::Test(i) => Cond::test(*i),
            Tree::Not(a) => flat(a).negated(),
            Tree::And(a, b) => flat(a).and(&flat(b)),
            Tree::Or(a, b) => flat(a).or(&flat(b)),
        }
    }

    fn plain(tree: &Tree, truth: u64) -> bool {
        match tree {
            Tree::Test(i) => truth >> i & 1 == 1,
            Tree::Not(a) => !plain(a, truth),
            Tree::And(a, b) => plain(a, truth) && plain(b, truth),
            Tree::Or(a, b) => plain(a, truth) || plain(b, truth),
        }
    }

    proptest! {
        #[test]
        fn sums_of_products_are_the_formula(tree in tree()) {
            let cond = flat(&tree);
            for truth in 0..32 {
                prop_assert_eq!(cond.holds(truth), plain(&tree, truth));
            }
        }
    }
}
